/* What /metrics tells about the process itself, with the names that Prometheus' own clients use. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "control/http_p.h"

#define FIRST_SIZE 65536 /* bytes */

static bool resident_bytes(uint64_t *out)
{
	char line[128], *at, *end; /* pages: the whole size, what is resident, ... */
	FILE *f = fopen("/proc/self/statm", "re");
	if (!f)
		return false;
	bool ok = fgets(line, sizeof(line), f);
	fclose(f);
	if (!ok || !(at = strchr(line, ' ')))
		return false;
	uint64_t pages = strtoull(at, &end, 10);
	if (*end != ' ')
		return false;
	*out = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return true;
}

static bool open_fds(uint64_t *out)
{
	DIR *d = opendir("/proc/self/fd");
	if (!d)
		return false;
	uint64_t n = 0;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	*out = n ? n - 1 : 0; /* one was for reading this folder */
	return true;
}

static void render_process(struct buf *b, double started)
{
	uint64_t v;
	struct rusage ru;
	buf_printf(b,
		   "# HELP process_start_time_seconds Start of the process, in seconds since 1970\n"
		   "# TYPE process_start_time_seconds gauge\n"
		   "process_start_time_seconds %.3f\n",
		   started);
	if (getrusage(RUSAGE_SELF, &ru) == 0) {
		double cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
			     (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
		buf_printf(b,
			   "# HELP process_cpu_seconds_total CPU time used, user and system\n"
			   "# TYPE process_cpu_seconds_total counter\n"
			   "process_cpu_seconds_total %.6f\n",
			   cpu);
	}
	if (resident_bytes(&v))
		buf_printf(b,
			   "# HELP process_resident_memory_bytes Resident memory\n"
			   "# TYPE process_resident_memory_bytes gauge\n"
			   "process_resident_memory_bytes %" PRIu64 "\n",
			   v);
	if (open_fds(&v))
		buf_printf(b,
			   "# HELP process_open_fds Open file descriptors\n"
			   "# TYPE process_open_fds gauge\n"
			   "process_open_fds %" PRIu64 "\n",
			   v);
	struct rlimit rl;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		buf_printf(b,
			   "# HELP process_max_fds Open file descriptors that there may be\n"
			   "# TYPE process_max_fds gauge\n"
			   "process_max_fds %" PRIu64 "\n",
			   (uint64_t)rl.rlim_cur);
}

void http_render_metrics(const struct http_source *src, double started, struct buf *b)
{
	buf_lit(b, "# HELP holdfast_build_info The version that runs\n"
		   "# TYPE holdfast_build_info gauge\n"
		   "holdfast_build_info{version=\"" HOLDFAST_VERSION "\"} 1\n");
	render_process(b, started);
	http_render_counters(b);
	if (src->metrics)
		src->metrics(src->ctx, b);
}

char *http_render_grow(http_fill_fn *fill, void *ctx, size_t max, size_t *len)
{
	for (size_t cap = FIRST_SIZE < max ? FIRST_SIZE : max; cap <= max; cap *= 2) {
		char *p = malloc(cap);
		if (!p)
			return NULL;
		struct buf b;
		buf_init(&b, p, cap);
		fill(ctx, &b);
		if (!b.full) {
			*len = b.len;
			return p;
		}
		free(p);
	}
	return NULL;
}
