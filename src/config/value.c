#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "config/unit_p.h"
#include "config/value_p.h"

#define PATH_MAX_LEN 4000 /* bytes; leaves room for file names below PATH_MAX */
#define NAME_MAX_LEN 128  /* bytes */

static const struct unit *units_of(enum option_type type)
{
	switch (type) {
	case OPTION_TYPE_DURATION: return unit_duration;
	case OPTION_TYPE_MICROS: return unit_micros;
	case OPTION_TYPE_SIZE: return unit_size;
	default: return NULL;
	}
}

/* What the manual calls the type, and this option's bounds. */
static void expected(const struct option_row *o, struct buf *b)
{
	const char *const *w = option_words(o->type);

	if (w) {
		for (unsigned i = 0; w[i]; i++)
			buf_printf(b, "%s%s", i == 0 ? "" : w[i + 1] ? ", " : " or ", w[i]);
		return;
	}
	switch (o->type) {
	case OPTION_TYPE_NUMBER: buf_lit(b, "a whole number"); break;
	case OPTION_TYPE_DURATION:
	case OPTION_TYPE_MICROS: buf_lit(b, "a duration"); break;
	case OPTION_TYPE_SIZE: buf_lit(b, "a size"); break;
	case OPTION_TYPE_BOOLEAN: buf_lit(b, "true or false"); break;
	case OPTION_TYPE_PATH: buf_lit(b, "a path"); break;
	case OPTION_TYPE_FILE: buf_lit(b, "a path, or \"\""); break;
	case OPTION_TYPE_ADDRESS: buf_lit(b, "an IP address and port such as 127.0.0.1:9060, or \"\""); break;
	case OPTION_TYPE_HOST_PORT: buf_lit(b, "a host or host:port, or \"\""); break;
	case OPTION_TYPE_HOST: buf_lit(b, "a host name or IP address, or \"\""); break;
	case OPTION_TYPE_NAME: buf_lit(b, "a name"); break;
	case OPTION_TYPE_REGEX: buf_printf(b, "an expression of at most %s bytes", o->max); return;
	case OPTION_TYPE_REJECT: buf_lit(b, "a status and reason such as \"403 Forbidden\", the status"); break;
	case OPTION_TYPE_METHOD: buf_lit(b, "a method such as INVITE"); break;
	case OPTION_TYPE_NETWORK: buf_lit(b, "an IP address, or a block such as 192.0.2.0/24"); break;
	default: buf_lit(b, "a SIP URI such as sip:192.0.2.1, or \"<sip:192.0.2.1>;weight=3\""); break;
	}
	if (*o->min)
		buf_printf(b, " from %s to %s", o->min, o->max);
	if (units_of(o->type)) {
		buf_lit(b, " (units");
		for (const struct unit *u = units_of(o->type); u->name; u++)
			if (*u->name)
				buf_printf(b, " %s", u->name);
		buf_lit(b, ")");
	}
}

/* `"value" complaint, expected …` */
static int refuse(const struct option_row *o, const char *text, const char *complaint,
		  char why[static VALUE_WHY_LEN])
{
	struct buf b;

	buf_init(&b, why, VALUE_WHY_LEN - 1);
	buf_printf(&b, "\"%.100s\" %s, expected ", text, complaint);
	expected(o, &b);
	why[b.len] = '\0';
	return -EINVAL;
}

static int number(const struct option_row *o, const char *text, uint64_t *v, char why[static VALUE_WHY_LEN])
{
	const struct unit *u = units_of(o->type);
	uint64_t min = 0, max = UINT64_MAX;

	if (u) {
		if (unit_parse(u, text, v) != 0)
			return refuse(o, text,
				      *text && strspn(text, "0123456789") == strlen(text) ? "has no unit"
											  : "is not valid",
				      why);
		unit_parse(u, o->min, &min);
		unit_parse(u, o->max, &max);
	} else {
		if (!slice_u64(slice_str(text), UINT64_MAX, v))
			return refuse(o, text, "is not a number", why);
		slice_u64(slice_str(o->min), UINT64_MAX, &min);
		slice_u64(slice_str(o->max), UINT64_MAX, &max);
	}
	if (*v < min || *v > max)
		return refuse(o, text, "is out of range", why);
	return 0;
}

static int boolean(const struct option_row *o, const char *text, bool *v, char why[static VALUE_WHY_LEN])
{
	static const char *const word[] = {"false", "true", "no", "yes", "off", "on"};

	for (unsigned i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
		if (strcmp(text, word[i]) == 0) {
			*v = i % 2;
			return 0;
		}
	}
	return refuse(o, text, "is neither", why);
}

static int word(const struct option_row *o, const char *text, unsigned *v, char why[static VALUE_WHY_LEN])
{
	const char *const *w = option_words(o->type);

	for (unsigned i = 0; w[i]; i++) {
		if (strcmp(text, w[i]) == 0) {
			*v = i;
			return 0;
		}
	}
	return refuse(o, text, "is not known", why);
}

static bool is_token(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~");

	return n > 0 && n <= NAME_MAX_LEN && s[n] == '\0';
}

bool value_is_host(struct slice s)
{
	struct addr a;

	if (s.len == 0 || s.len > 255)
		return false;
	if (s.p[0] == '[')
		return s.p[s.len - 1] == ']' && addr_parse_ip(s, 0, &a) == 0;
	for (size_t i = 0; i < s.len; i++) {
		char c = slice_lower(s.p[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
			return false;
	}
	return s.p[0] != '.' && s.p[0] != '-';
}

bool value_host_port(struct slice s, struct slice *host, uint16_t *port)
{
	size_t n = s.len;
	uint64_t v = 0;

	while (n && s.p[n - 1] >= '0' && s.p[n - 1] <= '9')
		n--;
	if (n && s.p[n - 1] == ':') {
		if (!slice_u64(slice_make(s.p + n, s.len - n), 65535, &v) || v == 0)
			return false;
		s.len = n - 1;
	}
	if (!value_is_host(s))
		return false;
	*host = s;
	*port = (uint16_t)v;
	return true;
}

static bool reject_ok(const struct option_row *o, const char *text)
{
	uint64_t v, min = 0, max = 0;
	const char *blank = strchr(text, ' ');
	size_t n = blank ? (size_t)(blank - text) : strlen(text);

	slice_u64(slice_str(o->min), UINT64_MAX, &min);
	slice_u64(slice_str(o->max), UINT64_MAX, &max);
	return n == 3 && slice_u64(slice_make(text, n), max, &v) && v >= min && strlen(text) <= NAME_MAX_LEN &&
	       (!blank || blank[1]);
}

static int target_params(struct slice params, struct config_target *t, char why[static VALUE_WHY_LEN])
{
	struct slice name, value, whole;

	while (sip_param_next(&params, &name, &value, &whole)) {
		uint64_t w;

		if (!slice_ieq(name, SLICE_LIT("weight"))) {
			snprintf(why, VALUE_WHY_LEN, "unknown parameter \"%.*s\", expected weight",
				 (int)(name.len > 100 ? 100 : name.len), name.p);
			return -EINVAL;
		}
		if (!slice_u64(value, 1000, &w) || w == 0) {
			snprintf(why, VALUE_WHY_LEN, "weight \"%.*s\" is out of range, expected 1 to 1000",
				 (int)(value.len > 100 ? 100 : value.len), value.p);
			return -EINVAL;
		}
		t->weight = (unsigned)w;
	}
	return 0;
}

int value_target(const char *text, struct config_target *out, char why[static VALUE_WHY_LEN])
{
	struct config_target t = {.text = text, .weight = 1};
	struct slice uri = slice_str(text), transport;
	struct sip_nameaddr na = {.params = SLICE_NONE};
	enum flow_proto proto = FLOW_PROTO_COUNT; /* none is named */
	const char *wrong = NULL;
	int rc;

	if (text[0] == '<') {
		if (sip_nameaddr_parse(uri, &na) != 0)
			goto bad;
		uri = na.uri;
	}
	if (sip_uri_parse(uri, &t.uri) != 0 || t.uri.scheme == SIP_SCHEME_OTHER ||
	    t.uri.scheme == SIP_SCHEME_TEL)
		goto bad;
	rc = target_params(na.params, &t, why);
	if (rc != 0)
		return rc;
	if (t.uri.headers.len)
		wrong = "has headers, expected a URI without \"?\"";
	else if (sip_param_get(t.uri.params, SLICE_LIT("transport"), &transport) &&
		 !flow_proto_parse(transport, &proto))
		wrong = "names an unknown transport, expected transport=udp, tcp or tls";
	else if (t.uri.scheme == SIP_SCHEME_SIPS && proto == FLOW_UDP)
		wrong = "cannot be: sips needs TLS, and UDP has none";
	if (wrong) {
		snprintf(why, VALUE_WHY_LEN, "\"%.100s\" %s", text, wrong);
		return -EINVAL;
	}
	*out = t;
	return 0;
bad:
	return refuse(option_find(OPTION_SECTION_gateway, "target"), text, "is not a target", why);
}

static int text_check(const struct option_row *o, const char *text, char why[static VALUE_WHY_LEN])
{
	struct slice s = slice_str(text), host;
	struct config_target target;
	struct addr_net net;
	struct addr addr;
	uint16_t port;
	uint64_t max = 0;
	bool ok;

	switch (o->type) {
	case OPTION_TYPE_PATH: ok = s.len > 0 && s.len <= PATH_MAX_LEN; break;
	case OPTION_TYPE_FILE: ok = s.len <= PATH_MAX_LEN; break;
	case OPTION_TYPE_ADDRESS: ok = s.len == 0 || addr_parse(s, &addr) == 0; break;
	case OPTION_TYPE_HOST_PORT: ok = s.len == 0 || value_host_port(s, &host, &port); break;
	case OPTION_TYPE_HOST: ok = s.len == 0 || value_is_host(s); break;
	case OPTION_TYPE_NAME: ok = s.len <= NAME_MAX_LEN; break;
	case OPTION_TYPE_REGEX: ok = slice_u64(slice_str(o->max), UINT64_MAX, &max) && s.len <= max; break;
	case OPTION_TYPE_REJECT: ok = s.len == 0 || reject_ok(o, text); break;
	case OPTION_TYPE_METHOD: ok = is_token(text); break;
	case OPTION_TYPE_NETWORK: ok = addr_net_parse(s, &net) == 0; break;
	case OPTION_TYPE_TARGET: return value_target(text, &target, why);
	default: ok = false; break;
	}
	return ok ? 0 : refuse(o, text, "is not valid", why);
}

char *value_copy(struct slice s)
{
	char *copy = malloc(s.len + 1);

	if (copy) {
		memcpy(copy, s.p, s.len);
		copy[s.len] = '\0';
	}
	return copy;
}

static int text_set(const struct option_row *o, const char *text, char *base)
{
	char **one = (char **)(base + o->offset);
	char *copy = value_copy(slice_str(text));

	if (!copy)
		return -ENOMEM;
	if (o->list) {
		char ***list = (char ***)(base + o->offset);
		unsigned *n = (unsigned *)(base + o->count);
		/* Doubling at powers of two needs no field for the capacity. */
		if ((*n & (*n - 1)) == 0) {
			char **more = realloc(*list, (*n ? 2 * (size_t)*n : 1) * sizeof(char *));
			if (!more) {
				free(copy);
				return -ENOMEM;
			}
			*list = more;
		}
		(*list)[(*n)++] = copy;
	} else {
		free(*one);
		*one = copy;
	}
	return 0;
}

int value_set(const struct option_row *o, const char *text, void *base, char why[static VALUE_WHY_LEN])
{
	char *field = (char *)base + o->offset;
	uint64_t v = 0;
	unsigned w = 0;
	int rc;

	for (const char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			snprintf(why, VALUE_WHY_LEN, "contains the control character 0x%02x, expected text",
				 (unsigned char)*p);
			return -EINVAL;
		}
	}
	if (o->type == OPTION_TYPE_BOOLEAN)
		return boolean(o, text, (bool *)field, why);
	if (option_words(o->type)) {
		rc = word(o, text, &w, why);
		if (rc == 0)
			memcpy(field, &w, sizeof(w));
		return rc;
	}
	if (units_of(o->type) || o->type == OPTION_TYPE_NUMBER) {
		rc = number(o, text, &v, why);
		if (rc == 0 && o->size == sizeof(uint64_t))
			memcpy(field, &v, sizeof(v));
		else if (rc == 0)
			memcpy(field, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
		return rc;
	}
	if (o->list && *(unsigned *)((char *)base + o->count) >= o->list) {
		snprintf(why, VALUE_WHY_LEN, "has too many values, expected at most %u", o->list);
		return -EINVAL;
	}
	rc = text_check(o, text, why);
	return rc == 0 ? text_set(o, text, base) : rc;
}

void value_print_string(const char *s, FILE *f)
{
	fputc('"', f);
	for (; *s; s++) {
		/* "${" would be expanded when read back */
		if (*s == '"' || *s == '\\' || (*s == '$' && s[1] == '{'))
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

void value_print(const struct option_row *o, const void *base, FILE *f)
{
	const char *field = (const char *)base + o->offset;
	const char *const *w = option_words(o->type);
	uint64_t v = 0;
	unsigned u = 0;

	if (o->list) {
		char *const *list = *(char *const *const *)field;
		unsigned n = *(const unsigned *)((const char *)base + o->count);

		fputc('{', f);
		for (unsigned i = 0; i < n; i++) {
			fputs(i ? ", " : "", f);
			value_print_string(list[i], f);
		}
		fputc('}', f);
	} else if (o->type == OPTION_TYPE_BOOLEAN) {
		fputs(*(const bool *)field ? "true" : "false", f);
	} else if (w) {
		memcpy(&u, field, sizeof(u));
		fputs(w[u], f);
	} else if (units_of(o->type) || o->type == OPTION_TYPE_NUMBER) {
		if (o->size == sizeof(v)) {
			memcpy(&v, field, sizeof(v));
		} else {
			memcpy(&u, field, sizeof(u));
			v = u;
		}
		if (units_of(o->type))
			unit_print(units_of(o->type), v, f);
		else
			fprintf(f, "%llu", (unsigned long long)v);
	} else {
		value_print_string(*(char *const *)field, f);
	}
}

void value_free(const struct option_row *o, void *base)
{
	char *field = (char *)base + o->offset;

	if (o->list) {
		char ***list = (char ***)field;
		unsigned *n = (unsigned *)((char *)base + o->count);

		for (unsigned i = 0; i < *n; i++)
			free((*list)[i]);
		free(*list);
		*list = NULL;
		*n = 0;
	} else if (o->type >= OPTION_TYPE_PATH) {
		free(*(char **)field);
		*(char **)field = NULL;
	}
}
