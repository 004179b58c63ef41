#include <errno.h>

#include "resolver/rr_p.h"

#define LABEL_MAX 63

static bool is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

int rr_name(struct slice text, char out[static RR_NAME_SIZE])
{
	char t[RR_NAME_SIZE];
	size_t label = 0;
	if (text.len && text.p[text.len - 1] == '.')
		text.len--;
	if (text.len == 0 || text.len >= RR_NAME_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		char c = slice_lower(text.p[i]);
		if (c == '.' ? label == 0 : !is_label_char(c) || label == LABEL_MAX)
			return -EINVAL;
		label = c == '.' ? 0 : label + 1;
		t[i] = c;
	}
	if (label == 0)
		return -EINVAL;
	t[text.len] = '\0';
	memcpy(out, t, text.len + 1);
	return 0;
}

int rr_name_join(const char *prefix, const char *name, char out[static RR_NAME_SIZE])
{
	size_t a = strlen(prefix), b = strlen(name);
	if (a + b >= RR_NAME_SIZE)
		return -E2BIG;
	memcpy(out, prefix, a);
	memcpy(out + a, name, b + 1);
	return 0;
}
