/* Configuration files. An operator's file is trusted, but whatever is in it, there is one line that says what is wrong,
 * or a configuration that prints and loads to itself. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load(int fd, struct config **c)
{
	char path[40], err[400];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = config_load(path, NULL, c, err, sizeof(err));
	if (rc != 0 && (strlen(err) == 0 || strchr(err, '\n')))
		abort();
	return rc;
}

static int print(const struct config *c, char **text, size_t *len)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		return -1;
	config_print(c, f);
	return fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("config", 0), again = memfd_create("again", 0);
	struct config *a = NULL, *b = NULL;
	char *first = NULL, *second = NULL;
	size_t n, m;

	if (fd < 0 || again < 0 || write(fd, data, size) != (ssize_t)size || load(fd, &a) != 0)
		goto out;
	if (print(a, &first, &n) != 0 || write(again, first, n) != (ssize_t)n)
		goto out;
	if (load(again, &b) != 0 || print(b, &second, &m) != 0 || n != m || memcmp(first, second, n) != 0)
		abort();
out:
	config_destroy(a);
	config_destroy(b);
	free(first);
	free(second);
	close(fd);
	close(again);
	return 0;
}
