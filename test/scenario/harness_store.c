/* A store under the proxy: users, registrations, and user agents with passwords. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../unit/digest_client.h"
#include "base/log.h"
#include "harness_p.h"
#include "registrar/digest.h"
#include "registrar/location.h"

void h_store_open(struct harness *h, uint64_t map, struct proxy_env *env)
{
	char err[256] = "";
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	folder_make("scenario", h->store_root);
	if (store_open(h->store_root, map, &h->store, err, sizeof(err)) ||
	    digest_create(env->secret, &h->digest))
		fail_msg("no store: %s", err);
	env->store = store_shared(h->store);
	env->digest = h->digest;
}

void h_store_close(struct harness *h)
{
	if (!h->store)
		return;
	digest_destroy(h->digest);
	store_close(h->store);
	folder_remove(h->store_root);
}

void h_user(struct harness *h, const char *name, const char *domain, const char *password)
{
	struct store_txn *t;
	if (store_begin(store_shared(h->store), &t) ||
	    users_put(t, slice_str(name), slice_str(domain), slice_str(password)) || store_commit(t))
		fail_msg("no user %s", name);
}

/* --- credentials --- */

/* The value of a parameter of a challenge, without quotes. */
static const char *param(struct harness *h, const char *challenge, const char *name)
{
	char *key = h_keepf(h, "%s=", name), *value;
	const char *p = strstr(challenge, key);
	if (!p)
		fail_msg("no %s in %s", name, challenge);
	p += strlen(key);
	value = h_keepf(h, "%s", *p == '"' ? p + 1 : p);
	value[strcspn(value, *p == '"' ? "\"" : ", ")] = 0;
	return value;
}

const char *h_credentials(struct harness *h, const struct sip_msg *challenge, const struct h_cred *c)
{
	bool proxy = challenge->status == 407;
	const char *text =
		h_hdr(h, challenge, proxy ? "Proxy-Authenticate" : "WWW-Authenticate", c->md5 ? 1 : 0);
	char value[1024];
	if (!text)
		fail_msg("no challenge in:\n%.*s", (int)challenge->len, challenge->buf);
	if (strcmp(param(h, text, "algorithm"), c->md5 ? "MD5" : "SHA-256") != 0)
		fail_msg("another algorithm: %s", text);
	struct digest_client d = {.user = c->name,
				  .password = c->password,
				  .method = c->method,
				  .uri = c->ruri,
				  .realm = param(h, text, "realm"),
				  .nonce = param(h, text, "nonce"),
				  .qop = c->qop,
				  .body = c->body,
				  .nc = c->nc,
				  .sha256 = !c->md5};
	digest_answer(&d, value);
	return h_keepf(h, "%s: %s\n", proxy ? "Proxy-Authorization" : "Authorization", value);
}

/* --- registrations --- */

const struct sip_msg *h_register(struct harness *h, const struct h_reg *r)
{
	static unsigned cseq;
	const char *name = r->name ? r->name : "bob";
	const char *from = r->conn ? h_conn_remote(h, r->conn) : r->from ? r->from : H_A;
	const char *aor = h_keepf(h, "<sip:%s@local.test>", name);
	const char *lines = r->lines ? r->lines : h_keepf(h, "Contact: <sip:%s@%s>\n", name, from);
	const char *credentials = "";
	const struct sip_msg *m = NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct h_req q = {.from = from,
				  .conn = r->conn,
				  .method = "REGISTER",
				  .ruri = "sip:local.test",
				  .via = h_keepf(h, "%s;rport", from),
				  .branch = h_keepf(h, "z9hG4bK-reg%u", ++cseq),
				  .from_hdr = aor,
				  .to_hdr = aor,
				  .call_id = r->call_id ? r->call_id : h_keepf(h, "reg-%s", name),
				  .cseq = r->cseq ? r->cseq : cseq,
				  .extra = h_keepf(h, "%s%s", lines, credentials)};
		h_request(h, &q);
		m = h_take_response(h, from, 0);
		if (!m || m->status != 401)
			break;
		credentials = H_CRED(h, m, .name = name, .password = "secret", .method = "REGISTER",
				     .ruri = "sip:local.test");
	}
	if (!m && !h->batch)
		fail_msg("no answer to the REGISTER, but:\n%s", h_pending(h));
	return m;
}

static struct store_reader *look(struct harness *h, const char *name, struct binding_set *set)
{
	struct store_reader *r;
	if (store_reader_create(store_shared(h->store), &r) || store_read_begin(r) ||
	    location_find(r, slice_str(h_keepf(h, "%s@local.test", name)),
			  h->env.wall ? *h->env.wall : clock_wall_ns() / 1000000u, set))
		fail_msg("the store cannot be read");
	return r;
}

unsigned h_registered(struct harness *h)
{
	return (unsigned)store_count(store_shared(h->store), STORE_LOCATION);
}

unsigned h_bindings(struct harness *h, const char *name)
{
	struct binding_set set;
	store_reader_destroy(look(h, name, &set));
	return set.count;
}

const char *h_binding(struct harness *h, const char *name, unsigned i)
{
	struct binding_set set;
	struct store_reader *r = look(h, name, &set);
	const char *text = i < set.count ? h_keepf(h, SLICE_FMT, SLICE_ARG(set.b[i].contact)) : NULL;
	store_reader_destroy(r);
	return text;
}
