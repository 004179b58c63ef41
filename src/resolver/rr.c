#include "resolver/rr_p.h"

#include <stdlib.h>

#include "base/hash.h"

struct rr_set *rr_set_create(enum rr_type type, const char *name, int error, unsigned count)
{
	size_t len = strlen(name);
	struct rr_set *s = len < RR_NAME_SIZE ? malloc(sizeof(*s) + count * sizeof(s->rr[0])) : NULL;
	if (!s)
		return NULL;
	*s = (struct rr_set){.refs = 1, .type = type, .error = error};
	memcpy(s->name, name, len + 1);
	return s;
}

struct rr_set *rr_set_ref(struct rr_set *s)
{
	s->refs++;
	return s;
}

void rr_set_unref(struct rr_set *s)
{
	if (s && --s->refs == 0)
		free(s);
}

bool rr_set_is(const struct rr_set *s, enum rr_type type, const char *name)
{
	return s->type == type && strcmp(s->name, name) == 0;
}

uint64_t rr_hash(enum rr_type type, const char *name)
{
	return hash_bytes(name, strlen(name), hash_seed + type);
}
