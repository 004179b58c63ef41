/* location [-n BINDINGS] [-d FOLDER]: what the location service costs: size of the file, time to start on it, memory,
 * look-ups and refreshes. The store is made in a new folder below FOLDER (/tmp), and removed. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "registrar/location.h"

#define MAP     (16ull << 30)
#define LOOKUPS 500000u
#define REFRESH 100000u
#define WALL_MS 1800000000000u

static char err[512];

static void fail(const char *what, int rc)
{
	fprintf(stderr, "location: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void need(const char *what, int rc)
{
	if (rc < 0)
		fail(what, rc);
}

static uint64_t next(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static double cpu_us(void)
{
	return (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e3;
}

static double wall_ms(void)
{
	return (double)clock_mono_ns() / 1e6;
}

static struct slice aor_of(unsigned i, char out[64])
{
	return slice_make(out, (size_t)snprintf(out, 64, "user%07u@example.com", i));
}

/* What a phone behind NAT sends: over a connection each third, over UDP otherwise. */
static void set_of(unsigned i, uint64_t expires, char text[512], struct binding_set *set)
{
	struct binding *b = &set->b[0];
	int contact = snprintf(text, 160, "sip:user%07u@10.%u.%u.%u:5060;transport=%s", i, i >> 16 & 255,
			       i >> 8 & 255, i & 255, i % 3 ? "udp" : "tcp");
	int call = snprintf(text + 160, 100, "%08x%08x@10.0.0.1", i * 2654435761u, i * 40503u);
	set->count = 1;
	*b = (struct binding){
		.contact = slice_make(text, (size_t)contact),
		.instance = SLICE_LIT("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
		.reg_id = 1,
		.call_id = slice_make(text + 160, (size_t)call),
		.cseq = (uint32_t)(expires & 0xffff),
		.q = 1000,
		.user_agent = SLICE_LIT("Linphone/5.0.0 (belle-sip/5.0.0)"),
		.params = SLICE_LIT(";+sip.ice"),
		.expires = expires,
		.updated = expires - 3600000,
		.use_flow = true,
		.number = i + 1,
		.flow = {.proto = i % 3 ? FLOW_UDP : FLOW_TCP,
			 .conn = i % 3 ? 0 : 1000 + i,
			 .remote = {.family = AF_INET, .port = 5060, .ip = {198, 51, 100, (uint8_t)i}},
			 .local = {.family = AF_INET, .port = 5060, .ip = {192, 0, 2, 1}}},
	};
}

static void refresh(struct store *s, unsigned n, unsigned total, unsigned batch, bool random)
{
	static struct binding_set set;
	char text[512], name[64];
	uint64_t seed = batch + 1;
	struct store_txn *t = NULL;
	for (unsigned i = 0; i < total; i++) {
		unsigned who = random ? (unsigned)(next(&seed) % n) : i;
		if (i % batch == 0)
			need("begin", store_begin(store_shared(s), &t));
		struct slice aor = aor_of(who, name);
		/* As a REGISTER does: what is there decides. */
		need("load", location_load(t, aor, 0, &set));
		set_of(who, WALL_MS + i, text, &set);
		need("save", location_save(t, aor, &set));
		if (i % batch == batch - 1 || i == total - 1)
			need("commit", store_commit(t));
	}
}

/* kB of this process that no file stands behind. */
static unsigned long anonymous_kb(void)
{
	unsigned long kb = 0;
	char line[128];
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

static void lookups(struct store_reader *r, unsigned n)
{
	static struct binding_set set;
	char name[64];
	uint64_t seed = 5;
	for (int round = 0; round < 2; round++) {
		double start = cpu_us();
		for (unsigned i = 0; i < LOOKUPS; i++) {
			unsigned who = (unsigned)(next(&seed) % n);
			need("begin", store_read_begin(r));
			need("find", location_find(r, aor_of(who, name), WALL_MS - 1, &set));
			store_read_end(r);
			if (set.count != 1 || set.b[0].number != who + 1)
				fail("a binding is not as it was stored", -EBADMSG);
		}
		printf("look-up, random, %s:  %.2f us\n", round ? "again" : "first",
		       (cpu_us() - start) / LOOKUPS);
	}
}

static struct store *open_store(const char *folder)
{
	struct store *s = NULL;
	if (store_open(folder, MAP, &s, err, sizeof(err))) {
		fprintf(stderr, "location: %s\n", err);
		exit(1);
	}
	return s;
}

/* The file's pages leave the cache, as far as the kernel follows the advice. */
static void chill(const char *folder)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/registrations.mdb", folder) >= (int)sizeof(path))
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void measure(const char *folder, unsigned n)
{
	static const unsigned batches[] = {1, 8, 50};
	static struct binding_set set;
	struct store *s = open_store(folder);
	struct store_reader *r;
	char name[64];
	uint64_t used, max;

	double start = cpu_us();
	refresh(s, n, n, 1000, false);
	store_env_size(store_shared(s), &used, &max);
	printf("%u bindings stored:    %.2f us each, %.0f MB, %.0f bytes each\n", n, (cpu_us() - start) / n,
	       (double)used / 1e6, (double)used / n);
	store_close(s);

	unsigned long before = anonymous_kb();
	start = wall_ms();
	s = open_store(folder);
	need("reader", store_reader_create(store_shared(s), &r));
	need("begin", store_read_begin(r));
	need("find", location_find(r, aor_of(n / 2, name), WALL_MS - 1, &set));
	printf("start and first look-up:  %.0f ms (file in the page cache)\n", wall_ms() - start);
	store_read_end(r);
	lookups(r, n);
	for (unsigned i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		start = cpu_us();
		refresh(s, n, REFRESH, batches[i], true);
		printf("refresh, batch of %2u:     %.2f us each\n", batches[i], (cpu_us() - start) / REFRESH);
	}
	unsigned long after = anonymous_kb();
	printf("resident memory beyond the file's pages: %lu kB, %.1f bytes a binding\n",
	       after > before ? after - before : 0, after > before ? (double)(after - before) * 1024 / n : 0.0);
	start = wall_ms();
	need("sync", store_env_sync(store_shared(s)));
	printf("store_env_sync:           %.0f ms\n", wall_ms() - start);
	store_reader_destroy(r);
	store_close(s);
	chill(folder);
	start = wall_ms();
	s = open_store(folder);
	printf("start, file not in cache: %.0f ms\n", wall_ms() - start);
	store_close(s);
}

static int remove_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(p);
}

int main(int argc, char **argv)
{
	unsigned n = 1000000;
	char made[PATH_MAX];
	const char *folder = "/tmp";
	for (int o; (o = getopt(argc, argv, "n:d:")) != -1;)
		if (o == 'n')
			n = (unsigned)strtoul(optarg, NULL, 10);
		else if (o == 'd')
			folder = optarg;
		else
			return 2;
	if (n == 0 || snprintf(made, sizeof(made), "%s/hf-location-XXXXXX", folder) >= (int)sizeof(made))
		return 2;
	if (!mkdtemp(made))
		fail(folder, -errno);
	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT);
	measure(made, n);
	return nftw(made, remove_one, 16, FTW_DEPTH | FTW_PHYS) ? 1 : 0;
}
