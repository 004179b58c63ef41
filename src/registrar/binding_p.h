/* The record of an address of record: bindings as bytes. Pure functions. */
#ifndef REGISTRAR_BINDING_P_H
#define REGISTRAR_BINDING_P_H

#include "registrar/location.h"

/* Bytes of the record, or 0: more bindings than allowed, or a field that is too long for it. */
size_t binding_size(const struct binding_set *set);
/* Writes exactly binding_size(set) bytes, that not being 0. */
void binding_encode(const struct binding_set *set, char *out);
/* The bindings that expire later than `now` (0: all); slices point into `record`. 0 or -EBADMSG (damaged, or of an
 * unknown version), out->count being the only thing that is untouched then. */
int binding_decode(struct slice record, uint64_t now, struct binding_set *out);

/* Whether the binding ends with its connection. */
static inline bool binding_on_conn(const struct binding *b)
{
	return b->unbind && b->use_flow && b->flow.conn != 0;
}

#endif
