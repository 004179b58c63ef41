/* The HMAC tokens that make Holdfast recognise what it wrote itself: in the branch of its Via and in the user part of
 * its Record-Route and Path. Keyed by the store's secret, so they hold over restarts. Owned by one worker. */
#ifndef PROXY_TOKEN_P_H
#define PROXY_TOKEN_P_H

#include <gnutls/crypto.h>

#include "base/buf.h"
#include "base/flow.h"
#include "sip/message.h"
#include "store/store.h"

struct token_keys {
	gnutls_hmac_hd_t branch;
	gnutls_hmac_hd_t route;
	gnutls_hmac_hd_t path;
	uint64_t loop_seed; /* for the loop hash: from the secret too, or a restart could not repeat a branch */
};

int token_init(struct token_keys *k, const unsigned char secret[static STORE_SECRET_LEN]);
void token_deinit(struct token_keys *k);

/* What a request's routing depends on (RFC 5393 4.2.1): the same for a request that came back unchanged, and for its
 * CANCEL and ACK. */
uint64_t token_loop_hash(const struct token_keys *k, const struct sip_msg *m);

#define TOKEN_BRANCH_LEN 33 /* "z9hG4bKhf" and 24 characters */

/* The branch for the index-th copy of request m. The same request and index always give the same branch, also
 * without a transaction and after a restart (RFC 3261 16.11), and nobody else can make it. */
void token_branch_make(const struct token_keys *k, const struct sip_msg *m, uint64_t loop, uint16_t index,
		       char out[static TOKEN_BRANCH_LEN]);

/* True if `ours` is a Via that we wrote: its branch carries our MAC over `next`, the Via below it. m is the message
 * that both stand in. On true *loop_prefix is the loop hash's part in it, to compare with token_loop_prefix. */
bool token_branch_check(const struct token_keys *k, const struct sip_msg *m, const struct sip_via *ours,
			const struct sip_via *next, uint64_t *loop_prefix);
uint64_t token_loop_prefix(uint64_t loop);
/* The part of a branch of our form, without checking the MAC; false: not our form. Cheap. */
bool token_branch_peek(struct slice branch, uint64_t *loop_prefix);

#define TOKEN_ROUTE_LEN 15 /* "hfr" and 12 characters */

/* The user part of our Record-Route for a dialog: good for requests of this Call-ID between this caller and whoever
 * answers, and for nothing else. */
void token_route_make(const struct token_keys *k, struct slice call_id, struct slice caller_tag,
		      char out[static TOKEN_ROUTE_LEN]);

#define TOKEN_FLOW_MAX 83 /* "hff" and at most 80 characters */

/* The same with the flows by which the two sides are to be reached (RFC 5626 5.3): that of the caller and that of who
 * was called; NULL: by the usual ways. Returns its length. */
unsigned token_flow_make(const struct token_keys *k, struct slice call_id, struct slice caller_tag,
			 const struct flow *caller, const struct flow *callee, char out[static TOKEN_FLOW_MAX]);

/* True if `user` is the token of m's dialog: Call-ID, and one of its tags is the caller's. *toward gets the flow to the
 * side that m does not come from, as flow_key_get gives it; that of none if the token has none. */
bool token_route_check(const struct token_keys *k, const struct sip_msg *m, struct slice user,
		       struct flow *toward);
/* True if `user` has a route token's form. */
bool token_route_is_form(struct slice user);

#define TOKEN_PATH_MAX 55 /* "hfp" and at most 52 characters */

/* The user part of our Path (RFC 5626 5.1): who shows it may send to this one flow, whatever and whenever, and nowhere
 * else. Returns its length. */
unsigned token_path_make(const struct token_keys *k, const struct flow *flow, char out[static TOKEN_PATH_MAX]);
/* True if `user` is one that we made. *flow gets the flow in it, as flow_key_get gives it. */
bool token_path_check(const struct token_keys *k, struct slice user, struct flow *flow);
/* True if `user` begins as one, good or not. */
bool token_path_is_form(struct slice user);

#endif
