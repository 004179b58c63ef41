/* What the tests of config_load share: a file "t.conf" in a folder of its own. */
#ifndef TEST_CONFIG_P_H
#define TEST_CONFIG_P_H

#include <errno.h>
#include <sys/stat.h>

#include "config/config.h"
#include "folder.h"

static const struct config_overrides none = {.workers = -1};
static char err[600];
static char folder[FOLDER_LEN];

static inline void put(const char *text, size_t len)
{
	FILE *f = fopen("t.conf", "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline int load(const char *text, const struct config_overrides *ov, struct config **c)
{
	put(text, strlen(text));
	*c = NULL;
	memset(err, 'x', sizeof(err));
	return config_load("t.conf", ov, c, err, sizeof(err));
}

static inline int enter(void **state)
{
	(void)state;
	folder_make("config", folder);
	return chdir(folder);
}

static inline int leave(void **state)
{
	(void)state;
	return chdir("/") == 0 && folder_remove(folder) == 0 ? 0 : -1;
}

#endif
