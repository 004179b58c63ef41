/* The record of an address of record: whatever the bytes, slices stay inside, and what decodes is written back as it
 * was. */
#include <errno.h>
#include <stdlib.h>

#include "registrar/binding_p.h"

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice whole, struct slice s)
{
	NEED(s.len == 0 || (s.p >= whole.p && s.p + s.len <= whole.p + whole.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct binding_set set;
	char *copy = malloc(size ? size : 1), *again;
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	struct slice s = slice_make(copy, size);
	if (binding_decode(s, 0, &set) == 0) {
		NEED(set.count <= LOCATION_BINDINGS_MAX);
		for (unsigned i = 0; i < set.count; i++) {
			struct binding *b = &set.b[i];
			NEED(b->contact.len && b->flow.proto < FLOW_PROTO_COUNT);
			inside(s, b->contact);
			inside(s, b->instance);
			inside(s, b->call_id);
			inside(s, b->path);
			inside(s, b->user_agent);
			inside(s, b->params);
		}
		NEED(binding_size(&set) == size);
		again = malloc(size);
		if (again) {
			binding_encode(&set, again);
			NEED(memcmp(again, copy, size) == 0);
		}
		free(again);
		unsigned all = set.count;
		NEED(binding_decode(s, UINT64_MAX / 2, &set) == 0 && set.count <= all);
	}
	free(copy);
	return 0;
}
