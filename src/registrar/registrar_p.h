#ifndef REGISTRAR_REGISTRAR_P_H
#define REGISTRAR_REGISTRAR_P_H

#include "registrar/registrar.h"
#include "sip/uri.h"

#define REGISTRAR_CONTACT_MAX \
	1024 /* bytes of a contact's URI, of its instance, and of the Path: more is refused */

/* One Contact of a request. */
struct contact {
	struct sip_uri uri;
	struct binding binding; /* as it will be stored */
	uint64_t expires;       /* ms; 0: to be removed */
};

struct contact_list {
	bool star;
	bool outbound;     /* RFC 5626 is in use */
	struct slice path; /* Path values, in `path_room` */
	unsigned count;
	struct contact contact[LOCATION_BINDINGS_MAX];
	char path_room[REGISTRAR_CONTACT_MAX];
	char param_room[4 * REGISTRAR_CONTACT_MAX]; /* header parameters to be kept */
};

/* Reads and checks all Contacts. 0; else the status of the refusal, which is in *out with what belongs to it. */
unsigned contacts_read(const struct registrar_args *a, struct contact_list *l, struct registrar_answer *out);

/* The number of a new binding. */
uint64_t registrar_number(const struct sip_msg *m, const struct contact *c);

#endif
