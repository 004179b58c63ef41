/* The rules of RFC 3261 10.3: the request's contacts are read and checked first, then applied to a copy of the set,
 * then the set is stored; a request that fails at any step has changed nothing. */
#include <errno.h>

#include "base/counters.h"
#include "registrar_p.h"

/* --- the answer --- */

static void list_binding(struct buf *out, const struct binding *b, uint64_t now)
{
	buf_lit(out, "Contact: <");
	buf_slice(out, b->contact);
	buf_char(out, '>');
	if (b->q != 1000) {
		buf_lit(out, ";q=0.");
		buf_char(out, (char)('0' + b->q / 100));
		buf_char(out, (char)('0' + b->q / 10 % 10));
		buf_char(out, (char)('0' + b->q % 10));
	}
	if (b->instance.len) {
		buf_lit(out, ";+sip.instance=\"<");
		buf_slice(out, b->instance);
		buf_lit(out, ">\"");
	}
	if (b->reg_id) {
		buf_lit(out, ";reg-id=");
		buf_u64(out, b->reg_id);
	}
	buf_slice(out, b->params);
	buf_lit(out, ";expires=");
	buf_u64(out, b->expires > now ? (b->expires - now + 999) / 1000 : 0);
	buf_lit(out, "\r\n");
}

static void list_all(struct buf *out, const struct binding_set *set, uint64_t now)
{
	for (unsigned i = 0; i < set->count; i++)
		list_binding(out, &set->b[i], now);
}

static void answer(struct registrar_answer *out, unsigned status, const char *reason)
{
	out->status = status;
	out->reason = reason;
	out->extra.len = 0;
}

static void answer_failed(struct registrar_answer *out, int error)
{
	answer(out, 500, NULL);
	out->error = error;
}

static void answer_ok(const struct registrar_args *a, const struct contact_list *l,
		      const struct binding_set *set, struct registrar_answer *out)
{
	out->status = 200;
	out->reason = NULL;
	list_all(&out->extra, set, a->now);
	if (l->path.len) {
		buf_lit(&out->extra, "Path: ");
		buf_slice(&out->extra, l->path);
		buf_lit(&out->extra, "\r\n");
	}
	if (l->outbound) {
		buf_lit(&out->extra, "Require: outbound\r\n");
		if (a->domain->flow_timer) {
			buf_lit(&out->extra, "Flow-Timer: ");
			buf_u64(&out->extra, a->domain->flow_timer / 1000);
			buf_lit(&out->extra, "\r\n");
		}
	}
	buf_lit(&out->extra, "Supported: path, outbound\r\n");
	if (out->extra.full)
		answer(out, 500, "Too Many Bindings To List");
}

/* --- the set --- */

/* RFC 5626 6: with an instance and a reg-id, they name the binding; else the URI does (10.3 step 7). */
static bool is_same(const struct binding *b, const struct contact *c)
{
	struct sip_uri u;

	if (b->instance.len && b->reg_id && c->binding.instance.len && c->binding.reg_id)
		return b->reg_id == c->binding.reg_id && slice_eq(b->instance, c->binding.instance);
	if ((b->instance.len && b->reg_id) || (c->binding.instance.len && c->binding.reg_id))
		return false;
	if (slice_eq(b->contact, c->binding.contact))
		return true;
	return sip_uri_parse(b->contact, &u) == 0 && sip_uri_equal(&u, &c->uri);
}

static struct binding *find(struct binding_set *set, const struct contact *c)
{
	for (unsigned i = 0; i < set->count; i++)
		if (is_same(&set->b[i], c))
			return &set->b[i];
	return NULL;
}

/* A request of the same Call-ID that is not newer must not undo a newer one (10.3 step 7). */
static bool is_late(const struct binding *b, const struct sip_msg *m)
{
	struct slice id = sip_slice(m, m->call_id);

	/* A binding that holds the request's own bytes was set by a Contact before: the same one once more. */
	return b->call_id.p != id.p && slice_eq(b->call_id, id) && m->cseq <= b->cseq;
}

static void take_out(struct binding_set *set, struct binding *b)
{
	unsigned i = (unsigned)(b - set->b);
	memmove(b, b + 1, (set->count - i - 1) * sizeof(*b));
	set->count--;
}

/* 0, or the status to refuse with. */
static unsigned apply_one(struct binding_set *set, const struct registrar_args *a, const struct contact *c)
{
	struct binding *b = find(set, c);

	if (b && is_late(b, a->m))
		return 500;
	if (c->expires == 0) {
		if (b)
			take_out(set, b);
		return 0;
	}
	if (!b) {
		if (set->count >= a->domain->max_contacts || set->count >= LOCATION_BINDINGS_MAX)
			return 403;
		b = &set->b[set->count++];
		*b = c->binding;
		b->number = registrar_number(a->m, c);
		return 0;
	}
	uint64_t number = b->number;
	*b = c->binding;
	b->number = number;
	return 0;
}

/* "Contact: *" with an expiry of 0. */
static unsigned apply_star(struct binding_set *set, const struct registrar_args *a)
{
	for (unsigned i = 0; i < set->count; i++)
		if (is_late(&set->b[i], a->m))
			return 500;
	set->count = 0;
	return 0;
}

static unsigned apply(struct binding_set *set, const struct registrar_args *a, const struct contact_list *l)
{
	unsigned status = 0;

	if (l->star)
		return apply_star(set, a);
	/* What goes makes room for what comes. */
	for (unsigned i = 0; i < l->count && !status; i++)
		if (l->contact[i].expires == 0)
			status = apply_one(set, a, &l->contact[i]);
	for (unsigned i = 0; i < l->count && !status; i++)
		if (l->contact[i].expires)
			status = apply_one(set, a, &l->contact[i]);
	return status;
}

static const char *reason_of(unsigned status)
{
	return status == 403 ? "Too Many Contacts" : status == 500 ? "CSeq Out Of Order" : NULL;
}

void registrar_apply(struct store_txn *t, const struct registrar_args *a, struct registrar_answer *out)
{
	struct contact_list l;
	struct binding_set set;
	unsigned status;
	int rc;

	out->changed = out->attach = false;
	out->error = 0;
	status = contacts_read(a, &l, out);
	if (status)
		return;
	rc = location_load(t, a->aor, a->now, &set);
	if (rc) {
		answer_failed(out, rc);
		return;
	}
	if (!l.star && !l.count) {
		answer_ok(a, &l, &set, out);
		return;
	}
	status = apply(&set, a, &l);
	if (status) {
		answer(out, status, reason_of(status));
		return;
	}
	answer_ok(a, &l, &set, out);
	if (out->status != 200)
		return;
	rc = location_save(t, a->aor, &set);
	if (rc) {
		answer_failed(out, rc);
		return;
	}
	out->changed = true;
	for (unsigned i = 0; i < l.count; i++)
		if (l.contact[i].expires && l.contact[i].binding.use_flow && a->flow->conn)
			out->attach = true;
}
