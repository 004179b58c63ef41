/* A SIP message, parsed in one pass into offsets; nothing is copied or changed. Offsets, not pointers, so that a
 * message can be cloned, moved and stored together with its bytes.
 *
 * Who owns what: the caller of sip_msg_parse owns both the struct and the bytes; a clone owns its bytes. A
 * message is never changed after parsing, so any thread that holds it may read it. */
#ifndef SIP_MESSAGE_H
#define SIP_MESSAGE_H

#include "base/slice.h"

enum sip_hdr_id {
	SIP_HDR_OTHER,
#define HEADER(id, name, compact, flags) SIP_HDR_##id,
#include "sip/headers.def"
#undef HEADER
	SIP_HDR_COUNT
};

enum sip_method {
	SIP_METHOD_OTHER, /* any other token: compare the text */
#define METHOD(m) SIP_METHOD_##m,
#include "sip/methods.def"
#undef METHOD
	SIP_METHOD_COUNT
};

#define SIP_HDRS_MAX    256   /* header lines in one message; more is 400 */
#define SIP_MESSAGE_MAX 65536 /* bytes, the largest that sip_msg_parse takes */

struct sip_span {
	uint32_t off; /* bytes from the start of the message */
	uint32_t len; /* bytes; with off 0 and len 0: absent */
};

struct sip_hdr {
	uint32_t off;       /* first byte of the name */
	uint32_t end;       /* one past the line end, folded lines included */
	uint32_t value;     /* first byte of the value, white space skipped */
	uint32_t value_len; /* bytes, without trailing white space; may contain folds */
	uint16_t name_len;  /* bytes */
	int16_t next;       /* index of the next header with this id, or -1; -1 for SIP_HDR_OTHER */
	uint8_t id;         /* enum sip_hdr_id */
};

/* One Via value (RFC 3261 20.42, RFC 3581). Spans are into the message. */
struct sip_via {
	struct sip_span whole;     /* from "SIP" to before the comma or line end */
	struct sip_span transport; /* "UDP" */
	struct sip_span host;      /* IPv6 with its brackets */
	uint16_t port;             /* 0: not given */
	bool has_rport;            /* ;rport or ;rport=… */
	struct sip_span branch;    /* without quotes; len 0: absent */
	struct sip_span received;
	struct sip_span maddr;
	struct sip_span rport; /* the whole parameter from 'r' to before the next ';' (absent: off 0) */
	uint16_t rport_value;  /* 0: none */
	uint8_t ttl;           /* 0: not given */
};

struct sip_msg {
	const char *buf;
	uint32_t len; /* bytes: start line to the end of the body; what follows a UDP body is left out */
	bool request;
	uint8_t method;  /* enum sip_method: of the request, or of a response's CSeq */
	uint16_t status; /* responses: 100 to 699 */
	uint16_t error;  /* 0: well-formed. Else the status that a request deserves for it (400, 505, 413 …);
	                              * a response with an error is to be dropped */
	uint16_t hdr_count;
	const char *error_text;      /* static: the reason phrase for `error`, "Missing To header" */
	struct sip_span method_name; /* request: as received. response: of the CSeq */
	struct sip_span ruri;        /* request */
	struct sip_span reason;      /* response; may be empty */
	struct sip_span body;
	struct sip_via via; /* topmost; whole.len 0: absent or unreadable */
	struct sip_span call_id;
	struct sip_span from_uri, from_tag;
	struct sip_span to_uri, to_tag; /* tag len 0: absent */
	uint32_t cseq;
	int32_t max_forwards;         /* -1: absent */
	int64_t content_length;       /* bytes; -1: absent */
	uint32_t body_start;          /* offset of the first byte after the empty line */
	int16_t first[SIP_HDR_COUNT]; /* index of the first header with the id, or -1 */
	struct sip_hdr *hdrs;         /* hdr_count of them, in order */
};

/* Room for parsing: a message and the largest number of headers. */
struct sip_msg_room {
	struct sip_msg msg;
	struct sip_hdr hdrs[SIP_HDRS_MAX];
};

/* Parses one message that starts at buf (CRLFs before it are skipped: msg.buf points behind them).
 * Any thread; a pure function of its input. `stream`: Content-Length is required to delimit (an absent one is an
 * error) and len must be that of the frame; for datagrams a body longer than the datagram is 400 and
 * bytes behind the body are ignored (RFC 3261 18.3).
 * 0: *room is filled; look at msg.error. A message with an error still has whatever could be read, so
 *    that a 400 can be built of what there is (sip_msg_answerable).
 * -EBADMSG: no SIP start line; there is nothing to answer. */
int sip_msg_parse(struct sip_msg_room *room, const char *buf, size_t len, bool stream);

/* True when a response would find its way back: the topmost Via can be read. It copies what else the request has (RFC
 * 3261 8.2.6.2), which may be too little for a transaction, but tells a person who looks on what is wrong. */
bool sip_msg_answerable(const struct sip_msg *m);

/* A copy in one block with its bytes and headers; release with free(). NULL: no memory. */
struct sip_msg *sip_msg_clone(const struct sip_msg *m);
size_t sip_msg_clone_size(const struct sip_msg *m); /* bytes of that block */
/* Makes the clone in memory of at least sip_msg_clone_size(m) bytes, aligned for any type. */
struct sip_msg *sip_msg_clone_into(const struct sip_msg *m, void *mem);

static inline struct slice sip_slice(const struct sip_msg *m, struct sip_span s)
{
	return slice_make(m->buf + s.off, s.len);
}

static inline const struct sip_hdr *sip_msg_hdr(const struct sip_msg *m, enum sip_hdr_id id)
{
	return m->first[id] < 0 ? NULL : &m->hdrs[m->first[id]];
}

static inline const struct sip_hdr *sip_hdr_next(const struct sip_msg *m, const struct sip_hdr *h)
{
	return h->next < 0 ? NULL : &m->hdrs[h->next];
}

static inline struct slice sip_hdr_value(const struct sip_msg *m, const struct sip_hdr *h)
{
	return slice_make(m->buf + h->value, h->value_len);
}

static inline struct slice sip_hdr_name(const struct sip_msg *m, const struct sip_hdr *h)
{
	return slice_make(m->buf + h->off, h->name_len);
}

/* The name of a header as headers.def has it, and of a method; the id of a name (compact forms too). */
struct slice sip_hdr_id_name(enum sip_hdr_id id);
struct slice sip_method_name(enum sip_method m);  /* OTHER: empty */
enum sip_method sip_method_id(struct slice name); /* case-sensitive (RFC 3261 7.1) */
enum sip_hdr_id sip_hdr_name_id(struct slice name);
const char *sip_reason_default(unsigned status); /* never NULL */

/* Walks the values of a header over all its lines, split at commas outside quotes and angle brackets for LIST
 * headers. Start with (struct sip_values){0}. */
struct sip_values {
	const struct sip_hdr *hdr; /* the line that the last value came from */
	uint32_t at;               /* offset to go on from */
	bool started;
	struct sip_span span; /* the last value, trimmed */
	bool sole;            /* the line holds no other value */
};
bool sip_values_next(const struct sip_msg *m, enum sip_hdr_id id, struct sip_values *it, struct slice *value);

/* The Via value at `at` (a value that sip_values_next gave). 0 or -EBADMSG. */
int sip_via_parse(const struct sip_msg *m, struct sip_span at, struct sip_via *out);

/* True if a comma-joined list of tokens in header `id` has `token`, compared without case. */
bool sip_msg_has_token(const struct sip_msg *m, enum sip_hdr_id id, struct slice token);

#endif
