/* A folder for the files of a test, of which nothing stays. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <ftw.h>
#include <unistd.h>

#include "unit.h"

#define FOLDER_LEN 128 /* bytes of its path */

/* Below TMPDIR, which scripts/run-tests removes also when the test is killed. */
static inline void folder_make(const char *name, char out[static FOLDER_LEN])
{
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(out, FOLDER_LEN, "%s/hf-test-%s-XXXXXX", tmp ? tmp : "/tmp", name);
	assert_true(n > 0 && n < FOLDER_LEN);
	assert_non_null(mkdtemp(out));
}

static inline int folder_remove_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(p);
}

/* With all that is in it. 0 or -1, as a teardown is to return it. */
static inline int folder_remove(const char *path)
{
	return nftw(path, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
