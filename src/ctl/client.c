#include "ctl_p.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (256u << 20) /* bytes */

struct answer {
	char *p;
	size_t len; /* bytes */
};

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;
	size_t len = size * n;
	char *p = len <= ANSWER_MAX - a->len ? realloc(a->p, a->len + len + 1) : NULL;

	if (!p)
		return 0;
	memcpy(p + a->len, data, len);
	a->p = p;
	a->len += len;
	a->p[a->len] = 0;
	return len;
}

char *client_escape(const char *value)
{
	char *text = curl_easy_escape(NULL, value, 0), *out = text ? strdup(text) : NULL;
	curl_free(text);
	return out;
}

static CURLcode perform(CURL *curl, const struct ctl *c, const char *method, const char *path, const char *body,
			struct answer *a, long *status)
{
	char url[2048];
	CURLcode rc;

	snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	if (body)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	else if (strcmp(method, "POST") == 0)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
	rc = curl_easy_perform(curl);
	if (rc == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
	return rc;
}

/* What the proxy said, or what is wrong with the answer. */
static int judge(long status, const struct answer *a, json_t **out, char **text)
{
	json_error_t err;
	json_t *j = a->p ? json_loadb(a->p, a->len, 0, &err) : NULL;

	if (status >= 400) {
		const char *why = json_string_value(json_object_get(j, "error"));
		fprintf(stderr, "holdfastctl: %s\n", why ? why : "the proxy refused");
		json_decref(j);
		return CTL_FAILED;
	}
	if (text) {
		json_decref(j);
		*text = a->p ? strdup(a->p) : NULL;
		return *text ? CTL_OK : CTL_FAILED;
	}
	if (!j) {
		fputs("holdfastctl: the proxy's answer cannot be read\n", stderr);
		return CTL_FAILED;
	}
	*out = j;
	return CTL_OK;
}

static void say_unreachable(const struct ctl *c, CURL *curl, CURLcode code)
{
	long err = 0;

	curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &err);
	if (code != CURLE_COULDNT_CONNECT || !err)
		fprintf(stderr, "holdfastctl: %s: %s\n", c->socket, curl_easy_strerror(code));
	else
		fprintf(stderr, "holdfastctl: %s: %s; %s\n", c->socket, strerror((int)err),
			err == EACCES ? "are you the proxy's user?"
				      : "is the proxy running, and is this its control.socket?");
}

int client_call(const struct ctl *c, const char *method, const char *path, json_t *body, json_t **out,
		char **text)
{
	CURL *curl = curl_easy_init();
	char *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct answer a = {0};
	long status = 0;
	int rc = CTL_FAILED;

	if (!curl || (body && !sent)) {
		fputs("holdfastctl: no memory\n", stderr);
	} else {
		CURLcode code = perform(curl, c, method, path, sent, &a, &status);
		if (code == CURLE_OK)
			rc = judge(status, &a, out, text);
		else if (!c->quiet)
			say_unreachable(c, curl, code);
	}
	if (sent)
		explicit_bzero(sent, strlen(sent));
	free(sent);
	free(a.p);
	curl_easy_cleanup(curl);
	return rc;
}
