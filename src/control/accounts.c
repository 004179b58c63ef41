/* Users by the control socket. */
#include <errno.h>

#include "control_p.h"
#include "registrar/digest.h"

#define PASSWORD_MAX 128 /* bytes */

struct users_ctx {
	json_t *list;
	const char *realm; /* NULL: all */
	unsigned limit;
};

static void users_one(void *ctx, struct slice name, struct slice realm)
{
	struct users_ctx *x = ctx;

	if (json_array_size(x->list) >= x->limit || (x->realm && !slice_ieq(realm, slice_str(x->realm))))
		return;
	json_array_append_new(
		x->list, json_pack("{s:s%, s:s%}", "name", name.p, name.len, "domain", realm.p, realm.len));
}

void account_list(struct control_call *c, struct control_answer *a)
{
	struct users_ctx x = {json_array(), control_arg(c, "domain"), control_limit(c)};
	long n = users_each(c->control->reader, users_one, &x);

	if (n < 0) {
		json_decref(x.list);
		control_error(a, MHD_HTTP_INTERNAL_SERVER_ERROR, "the store cannot be read");
		return;
	}
	a->body = json_pack("{s:o}", "users", x.list);
}

static int write_user(struct server *s, const char *name, const char *domain, const char *password)
{
	struct store_txn *t;
	int rc = store_begin(store_shared(s->store), &t);

	if (rc)
		return rc;
	rc = password ? users_put(t, slice_str(name), slice_str(domain), slice_str(password))
		      : users_del(t, slice_str(name), slice_str(domain));
	if (!rc)
		return store_commit(t);
	store_abort(t);
	return rc;
}

/* The domain that passwords are for is one that the proxy has: another would never be asked for. */
static bool is_domain(struct server *s, const char *domain)
{
	bool found = false;

	pthread_mutex_lock(&s->report);
	for (unsigned i = 0; i < s->config->domain_count && !found; i++)
		found = slice_ieq(slice_str(s->config->domain[i].name), slice_str(domain));
	pthread_mutex_unlock(&s->report);
	return found;
}

static void add(struct control_call *c, json_t *body, struct control_answer *a)
{
	struct server *s = c->control->server;
	const char *name, *domain, *password;
	int replace = 0, rc;
	bool exists;

	if (json_unpack(body, "{s:s, s:s, s:s, s?b}", "name", &name, "domain", &domain, "password", &password,
			"replace", &replace) < 0) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "name, domain and password are needed");
		return;
	}
	if (!is_domain(s, domain)) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "the configuration has no such domain");
		return;
	}
	if (!*password || strlen(password) > PASSWORD_MAX) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "a password has 1 to 128 bytes");
		return;
	}
	rc = users_exist(c->control->reader, slice_str(name), slice_str(domain), &exists);
	if (!rc && exists != (replace != 0)) {
		control_error(a, exists ? MHD_HTTP_CONFLICT : MHD_HTTP_NOT_FOUND,
			      exists ? "there is such a user already" : "there is no such user");
		return;
	}
	store_read_end(c->control->reader);
	if (!rc)
		rc = write_user(s, name, domain, password);
	if (rc)
		control_error(a, rc == -EINVAL ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR,
			      rc == -EINVAL   ? "such a name cannot be"
			      : rc == -ENOSPC ? "the store is full"
					      : "the store cannot be written");
	else
		a->body = json_pack("{s:s}", "result", replace ? "changed" : "added");
}

void account_add(struct control_call *c, struct control_answer *a)
{
	json_error_t err;
	json_t *body = json_loadb(c->body, c->len, 0, &err);

	if (!body) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "the body is not JSON");
		return;
	}
	add(c, body, a);
	json_decref(body);
}

void account_remove(struct control_call *c, struct control_answer *a)
{
	const char *name = control_arg(c, "name"), *domain = control_arg(c, "domain");
	int rc = name && domain ? write_user(c->control->server, name, domain, NULL) : -EINVAL;

	if (rc)
		control_error(a,
			      rc == -EINVAL   ? MHD_HTTP_BAD_REQUEST
			      : rc == -ENOENT ? MHD_HTTP_NOT_FOUND
					      : MHD_HTTP_INTERNAL_SERVER_ERROR,
			      rc == -EINVAL   ? "name and domain are needed"
			      : rc == -ENOENT ? "there is no such user"
					      : "the store cannot be written");
	else
		a->body = json_pack("{s:s}", "result", "deleted");
}
