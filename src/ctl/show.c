/* Answers for people: columns with a heading, one line an entry. */
#include "ctl_p.h"

#include <string.h>

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));
	return s ? s : "";
}

static long long number(const json_t *j, const char *key)
{
	return (long long)json_integer_value(json_object_get(j, key));
}

static double real(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static bool flag(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

/* What came from the network may hold what a terminal takes for orders. */
static void put(const char *s, int width)
{
	int n = 0;
	for (; *s; s++, n++)
		putchar((unsigned char)*s < ' ' || *s == 127 ? '?' : *s);
	for (; n < width; n++)
		putchar(' ');
	putchar(' ');
}

static void put_seconds(double s, int width)
{
	char t[32];
	if (s < 0)
		snprintf(t, sizeof(t), "-");
	else if (s < 1)
		snprintf(t, sizeof(t), "%.1fms", s * 1e3);
	else if (s < 120)
		snprintf(t, sizeof(t), "%.0fs", s);
	else if (s < 7200)
		snprintf(t, sizeof(t), "%.0fm", s / 60);
	else
		snprintf(t, sizeof(t), "%.1fh", s / 3600);
	put(t, width);
}

static void put_number(long long n, int width)
{
	char t[32];
	snprintf(t, sizeof(t), "%lld", n);
	put(t, width);
}

static void end(void)
{
	putchar('\n');
}

void show_status(const json_t *j)
{
	const json_t *calls = json_object_get(j, "calls"), *store = json_object_get(j, "store");

	printf("holdfast %s, %s, up ", text(j, "version"),
	       flag(j, "draining") ? "draining"
	       : flag(j, "ready")  ? "ready"
				   : "loading");
	put_seconds(real(j, "uptime"), 0);
	end();
	printf("threads       workers %lld, acceptors %lld\n", number(j, "workers"), number(j, "acceptors"));
	printf("calls         %lld being set up, %lld established\n", number(calls, "setting_up"),
	       number(calls, "established"));
	printf("transactions  %lld\n", number(j, "transactions"));
	printf("connections   %lld\n", number(j, "connections"));
	printf("registered    %lld addresses\n", number(j, "registered"));
	printf("store         %s, %.1f of %.1f MB\n", text(store, "path"), (double)number(store, "used") / 1e6,
	       (double)number(store, "size") / 1e6);
}

void show_connections(const json_t *j)
{
	const json_t *e;
	size_t i;

	put("ID", 20), put("TRANSPORT", 9), put("DIR", 3), put("STATE", 11), put("AGE", 7), put("IDLE", 7);
	put("QUEUED", 7), put("REMOTE", 24), put("LOCAL", 0), end();
	json_array_foreach(json_object_get(j, "connections"), i, e)
	{
		put(text(e, "id"), 20), put(text(e, "transport"), 9), put(text(e, "direction"), 3);
		put(text(e, "state"), 11), put_seconds(real(e, "age"), 7), put_seconds(real(e, "idle"), 7);
		put_number(number(e, "queued"), 7), put(text(e, "remote"), 24), put(text(e, "local"), 0), end();
	}
	printf("%zu of %lld\n", json_array_size(json_object_get(j, "connections")), number(j, "total"));
}

void show_transactions(const json_t *j)
{
	const json_t *e;
	size_t i;

	put("KIND", 14), put("STATE", 11), put("COUNT", 0), end();
	json_array_foreach(json_object_get(j, "transactions"), i, e)
	{
		put(text(e, "kind"), 14), put(text(e, "state"), 11), put_number(number(e, "count"), 0), end();
	}
}

void show_registrations(const json_t *j)
{
	const json_t *e;
	size_t i;

	put("ADDRESS", 28), put("REACHABLE", 9), put("RTT", 8), put("EXPIRES", 7), put("Q", 4),
		put("SOURCE", 28);
	put("CONTACT", 0), end();
	json_array_foreach(json_object_get(j, "registrations"), i, e)
	{
		char q[16], source[96];
		snprintf(q, sizeof(q), "%.2f", real(e, "q"));
		snprintf(source, sizeof(source), "%s:%s", text(e, "transport"), text(e, "source"));
		put(text(e, "aor"), 28), put(flag(e, "reachable") ? "yes" : "no", 9),
			put_seconds(real(e, "rtt"), 8);
		put_seconds((double)number(e, "expires"), 7), put(q, 4), put(source, 28),
			put(text(e, "contact"), 0);
		end();
	}
	printf("%zu contacts shown, %lld addresses registered\n",
	       json_array_size(json_object_get(j, "registrations")), number(j, "addresses"));
}

void show_gateways(const json_t *j)
{
	const json_t *e;
	size_t i;

	put("GATEWAY", 20), put("UP", 3), put("RTT", 8), put("PROBES", 8), put("FAILED", 8), put("TARGET", 0),
		end();
	json_array_foreach(json_object_get(j, "gateways"), i, e)
	{
		put(text(e, "gateway"), 20), put(flag(e, "up") ? "yes" : "no", 3);
		put_seconds(real(e, "rtt") > 0 ? real(e, "rtt") : -1, 8), put_number(number(e, "probes"), 8);
		put_number(number(e, "failed"), 8), put(text(e, "target"), 0), end();
	}
}

void show_users(const json_t *j)
{
	const json_t *e;
	size_t i;

	json_array_foreach(json_object_get(j, "users"), i, e)
		printf("%s@%s\n", text(e, "name"), text(e, "domain"));
}

void show_drain(const json_t *j)
{
	printf("%s: %lld calls are being set up, %lld are established\n", text(j, "result"),
	       number(j, "setting_up"), number(j, "established"));
}

void show_result(const json_t *j)
{
	puts(text(j, "result"));
}
