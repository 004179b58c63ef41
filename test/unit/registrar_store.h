/* A store in a temporary folder, for the tests of the registrar. */
#ifndef TEST_REGISTRAR_STORE_H
#define TEST_REGISTRAR_STORE_H

#include "base/counters.h"
#include "base/log.h"
#include "folder.h"
#include "store/db.h"

static char store_root[FOLDER_LEN];
static struct store *store;
static struct store_env *env;
static struct store_reader *reader;

static inline int store_setup(uint64_t map)
{
	char err[512] = "";
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	folder_make("registrar", store_root);
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
	return folder_remove(store_root);
}

#endif
