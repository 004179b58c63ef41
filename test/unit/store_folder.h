/* A store in a temporary folder: opened, and what was moved aside there counted. */
#ifndef TEST_STORE_FOLDER_H
#define TEST_STORE_FOLDER_H

#include "base/counters.h"
#include "base/log.h"
#include "folder.h"
#include "store/store_p.h"

static char root[FOLDER_LEN], folder[FOLDER_LEN + 16]; /* the store's, below root; not there yet */
static char err[512];
static uint64_t map; /* bytes: map_size */
static int aside;

static inline int setup(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	folder_make("store", root);
	snprintf(folder, sizeof(folder), "%s/a/b", root);
	err[0] = '\0';
	map = 64u << 20;
	counters_reset_all();
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	return folder_remove(root);
}

static inline struct store *open_ok(void)
{
	struct store *s = NULL;
	int rc = store_open(folder, map, &s, err, sizeof(err));
	if (rc)
		print_error("%s\n", err);
	assert_int_equal(rc, 0);
	assert_non_null(s);
	return s;
}

static inline int aside_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type;
	aside += strstr(p + f->base, ".mdb.damaged-") != NULL;
	return 0;
}

static inline int count_aside(void)
{
	aside = 0;
	assert_int_equal(nftw(folder, aside_one, 16, FTW_PHYS), 0);
	return aside;
}

#endif
