/* The location service: bindings of addresses of record, in the store's shared environment. There is no copy of it in
 * memory: a look-up is a read in the map. */
#ifndef REGISTRAR_LOCATION_H
#define REGISTRAR_LOCATION_H

#include "base/buf.h"
#include "base/flow.h"
#include "store/db.h"

#define LOCATION_AOR_MAX      256 /* bytes of "user@domain" */
#define LOCATION_BINDINGS_MAX 64  /* of one address of record; max_contacts may ask for fewer */

/* One binding. Slices point into the record (look-up) or to the caller's memory (store). */
struct binding {
	struct slice contact;  /* the URI as registered, without <> and header parameters */
	struct slice instance; /* +sip.instance without <> and quotes; empty: none */
	uint32_t reg_id;       /* RFC 5626; 0: none. With an instance it names the binding, not the URI */
	struct slice call_id;
	uint32_t cseq;
	uint16_t q;        /* thousandths; 1000 if none was given */
	struct slice path; /* Path values, as they go into Route; empty: none */
	struct slice user_agent;
	/* other header parameters of the Contact, to be listed again; with the leading ";" each */
	struct slice params;
	uint64_t expires; /* ms of the wall clock */
	uint64_t updated; /* likewise */
	struct flow flow; /* what the REGISTER came over */
	bool unbind;      /* ends with the connection of its flow */
	bool use_flow; /* requests go over the flow (outbound, a connection, NAT), not to the URI's address */
	bool outbound; /* RFC 5626 was used */
	bool unreachable; /* the last qualify failed */
	uint64_t number;  /* of this binding: the same as long as it is refreshed; for qualify's figures */
};

/* The bindings of one address of record. */
struct binding_set {
	unsigned count;
	struct binding b[LOCATION_BINDINGS_MAX];
};

/* "user@domain" as key: escapes undone where 19.1.4 says they mean the same, domain in lower case. 0 or -EINVAL (too
 * long, no user …). */
int location_aor(struct slice user, struct slice domain, struct buf *out);

/* By reader. The bindings that have not expired at `now` (ms of the wall clock), in the order they were stored. 0
 * (count may be 0) or -errno. */
int location_find(struct store_reader *r, struct slice aor, uint64_t now, struct binding_set *out);

/* By transaction: the same, and writing the set back whole (count 0: deleted). Keeps the index of connections. */
int location_load(struct store_txn *t, struct slice aor, uint64_t now, struct binding_set *out);
int location_save(struct store_txn *t, struct slice aor, const struct binding_set *set);

/* By transaction. Removes the bindings that can only be reached over the connection; a binding that was refreshed over
 * another one meanwhile stays. Returns how many, or -errno. */
int location_drop_conn(struct store_txn *t, uint64_t conn);

/* By reader that has begun. True if bindings depend on the connection. */
bool location_has_conn(struct store_reader *r, uint64_t conn);

/* A walk over a part of all addresses of record, for one of `parts` that together are everything: expired bindings are
 * for the caller to remove (in a transaction of its own), others may be qualified. Goes on behind `*where` (opaque,
 * zero at first) and stops after `max` addresses; *where is zero again when the part has been walked through. `fn` is
 * called with each set (expired ones included). Returns how many addresses. */
struct location_place {
	unsigned len;
	char key[STORE_KEY_MAX];
};
int location_walk(struct store_reader *r, unsigned part, unsigned parts, struct location_place *where,
		  unsigned max, void (*fn)(void *ctx, struct slice aor, const struct binding_set *set),
		  void *ctx);

#endif
