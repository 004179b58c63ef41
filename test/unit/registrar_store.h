/* A store in a temporary folder, for the tests of the registrar. */
#ifndef TEST_REGISTRAR_STORE_H
#define TEST_REGISTRAR_STORE_H

#include <ftw.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "store/db.h"
#include "unit.h"

static char store_root[64];
static struct store *store;
static struct store_env *env;
static struct store_reader *reader;

static int store_remove(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(p);
}

static inline int store_setup(uint64_t map)
{
	char err[512] = "";
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	snprintf(store_root, sizeof(store_root), "/tmp/hf-test-registrar-XXXXXX");
	assert_non_null(mkdtemp(store_root));
	assert_int_equal(store_open(store_root, map, &store, err, sizeof(err)), 0);
	env = store_shared(store);
	assert_int_equal(store_reader_create(env, &reader), 0);
	counters_reset_all();
	return 0;
}

static inline int store_teardown(void)
{
	store_reader_destroy(reader);
	store_close(store);
	return nftw(store_root, store_remove, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
