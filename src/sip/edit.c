#include "sip/edit.h"

#include <errno.h>

#include "chars_p.h"
#include "edit_p.h"

void sip_edits_add(struct sip_edits *e, uint32_t off, uint32_t del, struct slice ins)
{
	unsigned i = e->count;

	if (i == SIP_EDITS_MAX) {
		e->full = true;
		return;
	}
	for (; i > 0 && e->edit[i - 1].off > off; i--)
		e->edit[i] = e->edit[i - 1];
	e->edit[i] = (struct sip_edit){off, del, ins};
	e->count++;
}

static bool is_removal(const struct sip_edit *x)
{
	return x->del && !x->ins.len;
}

static bool is_removed(const struct sip_edits *e, uint32_t off)
{
	for (unsigned i = 0; i < e->count; i++)
		if (is_removal(&e->edit[i]) && e->edit[i].off <= off && off < e->edit[i].off + e->edit[i].del)
			return true;
	return false;
}

static void removal_drop(struct sip_edits *e, uint32_t off)
{
	for (unsigned i = 0; i < e->count; i++) {
		if (!is_removal(&e->edit[i]) || e->edit[i].off > off || off >= e->edit[i].off + e->edit[i].del)
			continue;
		e->count--;
		memmove(&e->edit[i], &e->edit[i + 1], (e->count - i) * sizeof(e->edit[0]));
		return;
	}
}

/* Values of one line may be removed one after the other and in any order; which commas go depends on all of them.
 * So what was to be removed of this line before is taken back, and all of it entered anew, a run at a time. */
void sip_edits_remove_value(struct sip_edits *e, const struct sip_msg *m, const struct sip_values *it)
{
	const struct sip_hdr *h = it->hdr;
	struct sip_hdr alone = *h; /* the line as the only one of its header */
	struct sip_msg line = *m;
	struct sip_values w = {0};
	struct sip_edit again[SIP_EDITS_MAX];
	uint32_t kept_end = 0, run = 0, run_end = 0;
	unsigned n = 0;
	struct slice v;

	if (it->sole) {
		sip_edits_add(e, h->off, h->end - h->off, SLICE_NONE);
		return;
	}
	alone.next = -1;
	line.hdrs = &alone;
	line.first[h->id] = 0;
	while (sip_values_next(&line, (enum sip_hdr_id)h->id, &w, &v)) {
		uint32_t off = w.span.off;

		if (off == it->span.off || is_removed(e, off)) {
			if (!run)
				run = off;
			run_end = off + w.span.len;
			continue;
		}
		if (run && n < SIP_EDITS_MAX)
			again[n++] = (struct sip_edit){run, off - run, SLICE_NONE};
		run = 0;
		kept_end = off + w.span.len;
	}
	if (run && n < SIP_EDITS_MAX) {
		if (kept_end)
			again[n++] = (struct sip_edit){kept_end, run_end - kept_end, SLICE_NONE};
		else
			again[n++] = (struct sip_edit){h->off, h->end - h->off, SLICE_NONE};
	}
	w = (struct sip_values){0};
	while (sip_values_next(&line, (enum sip_hdr_id)h->id, &w, &v))
		removal_drop(e, w.span.off);
	for (unsigned i = 0; i < n; i++)
		sip_edits_add(e, again[i].off, again[i].del, again[i].ins);
}

void sip_edits_copy(const struct sip_edits *e, const struct sip_msg *m, uint32_t from, uint32_t to,
		    struct buf *b)
{
	uint32_t at = from;

	for (unsigned i = 0; i < e->count; i++) {
		const struct sip_edit *x = &e->edit[i];

		if (x->off < from)
			continue;
		if (x->off > to)
			break;
		if (x->off > at) {
			buf_put(b, m->buf + at, x->off - at);
			at = x->off;
		}
		buf_slice(b, x->ins);
		if (x->del > to - x->off)
			at = to;
		else if (x->off + x->del > at)
			at = x->off + x->del;
	}
	if (at < to)
		buf_put(b, m->buf + at, to - at);
}

long sip_edits_apply(const struct sip_edits *e, const struct sip_msg *m, char *out, size_t cap)
{
	struct buf b;

	if (e->full)
		return -ENOBUFS;
	buf_init(&b, out, cap);
	sip_edits_copy(e, m, 0, m->len, &b);
	return b.full ? -ENOBUFS : (long)b.len;
}
