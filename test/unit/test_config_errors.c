/* The exact line for each thing that can be wrong in a file or on a command line. */
#include "test_config_p.h"

static void bad_with(const char *text, const struct config_overrides *ov, const char *line)
{
	struct config *c;
	int rc = load(text, ov, &c);

	if (rc == 0)
		fail_msg("accepted: %s", text);
	assert_string_equal(err, line);
	assert_int_equal(rc, -EINVAL);
	assert_null(c);
}

static const struct {
	const char *text, *line;
} errors[] = {
	/* numbers, durations, sizes, words */
	{"workers = many",
	 "t.conf:1: workers: \"many\" is not a number, expected a whole number from 0 to 256"},
	{"\n\nworkers = 257",
	 "t.conf:3: workers: \"257\" is out of range, expected a whole number from 0 to 256"},
	{"workers = -1", "t.conf:1: workers: \"-1\" is not a number, expected a whole number from 0 to 256"},
	{"workers = 99999999999999999999",
	 "t.conf:1: workers: \"99999999999999999999\" is not a number, expected a whole number from 0 to 256"},
	{"workers = \"\"", "t.conf:1: workers: \"\" is not a number, expected a whole number from 0 to 256"},
	{"timers { t1 = 500 }",
	 "t.conf:1: timers: t1: \"500\" has no unit, expected a duration from 10ms to 10s (units ms s m h d)"},
	{"timers {\n t1 = 5ms\n}", "t.conf:2: timers: t1: \"5ms\" is out of range, expected a duration from "
				   "10ms to 10s (units ms s m h d)"},
	{"timers { t1 = 1y }",
	 "t.conf:1: timers: t1: \"1y\" is not valid, expected a duration from 10ms to 10s (units ms s m h d)"},
	{"timers { t1 = 1.5s }", "t.conf:1: timers: t1: \"1.5s\" is not valid, expected a duration from 10ms "
				 "to 10s (units ms s m h d)"},
	{"gather = 1s",
	 "t.conf:1: gather: \"1s\" is out of range, expected a duration from 0us to 10ms (units us ms s)"},
	{"store { map_size = 4x }",
	 "t.conf:1: store: map_size: \"4x\" is not valid, expected a size from 1m to 16t (units k m g t)"},
	{"store { map_size = 17t }",
	 "t.conf:1: store: map_size: \"17t\" is out of range, expected a size from 1m to 16t (units k m g t)"},
	{"log { level = loud }",
	 "t.conf:1: log: level: \"loud\" is not known, expected error, warning, info or debug"},
	{"gateway g {\n target = sip:a\n policy = fastest }",
	 "t.conf:3: gateway \"g\": policy: \"fastest\" is not known, expected serial, parallel, round-robin, "
	 "random, hash "
	 "or weight"},
	{"route r { dns = maybe }", "t.conf:1: route \"r\": dns: \"maybe\" is neither, expected true or false"},
	{"timers { t1 = 5s\n t2 = 4s\n}",
	 "t.conf:2: timers: t2: 4000ms is less than t1, expected at least 5000ms"},
	{"timers { t1 = 5s }", "t.conf:1: timers: t2: 4000ms is less than t1, expected at least 5000ms"},
	/* text */
	{"stats { listen = localhost }", "t.conf:1: stats: listen: \"localhost\" is not valid, expected an IP "
					 "address and port such as 127.0.0.1:9060, or "
					 "\"\""},
	{"dns { server = 127.0.0.1 }", "t.conf:1: dns: server: \"127.0.0.1\" is not valid, expected an IP "
				       "address and port such as 127.0.0.1:9060, or "
				       "\"\""},
	{"store { path = '' }", "t.conf:1: store: path: \"\" is not valid, expected a path"},
	{"store { path = \"a\\nb\" }",
	 "t.conf:1: store: path: contains the control character 0x0a, expected text"},
	{"listen \"udp:127.0.0.1:5060\" { advertise = \"a b\" }",
	 "t.conf:1: listen \"udp:127.0.0.1:5060\": advertise: \"a b\" is not valid, expected a host or "
	 "host:port, or \"\""},
	{"listen \"udp:127.0.0.1:5060\" { advertise = \"a:0\" }",
	 "t.conf:1: listen \"udp:127.0.0.1:5060\": advertise: \"a:0\" is not valid, expected a host or "
	 "host:port, or \"\""},
	{"route r { domain = \"a/b\" }",
	 "t.conf:1: route \"r\": domain: \"a/b\" is not valid, expected a host name or IP address, or \"\""},
	{"route r { method = {INVITE, \"A B\"} }",
	 "t.conf:1: route \"r\": method: \"A B\" is not valid, expected a method such as INVITE"},
	{"route r { from = {\n10.0.0.0/8,\n10.0.0.0/33} }",
	 "t.conf:3: route \"r\": from: \"10.0.0.0/33\" is not valid, expected an IP address, or a block such "
	 "as "
	 "192.0.2.0/24"},
	{"domain \"a.b\" { }\ndomain \"c.d\" { alias = {x.y, A.b} }",
	 "t.conf:2: domain \"c.d\": alias: \"A.b\" is given twice, expected names of one domain only"},
	{"domain \"a.b\" { alias = {\"192.0.2.1\", \"192.0.2.1\"} }",
	 "t.conf:1: domain \"a.b\": alias: \"192.0.2.1\" is given twice, expected names of one domain only"},
	{"domain \"a.b\" { alias = {\"\"} }",
	 "t.conf:1: domain \"a.b\": alias: \"\" is not valid, expected a host name or IP address"},
	{"domain \"a.b\" { trusted = {10.0.0.0/8, x} }",
	 "t.conf:1: domain \"a.b\": trusted: \"x\" is not valid, expected an IP address, or a block such as "
	 "192.0.2.0/24"},
	{"route r {\n\n user = \"(\"\n dns = true }",
	 "t.conf:3: route \"r\": user: \"(\" is not valid (Unmatched ( or \\(), expected a POSIX extended "
	 "regular expression"},
	{"route r { user = \"a++++++++++++++++++++++++++++++++++++++++++++++++\" dns = true }",
	 "t.conf:1: route \"r\": user: \"a++++++++++++++++++++++++++++++++++++++++++++++++\" is not valid (too "
	 "many "
	 "repetitions within repetitions), expected a POSIX extended regular expression"},
	{"route r { user = \"^[]a]x((b{3,200}|[[:digit:]]c){200}d*)+$\" dns = true }",
	 "t.conf:1: route \"r\": user: \"^[]a]x((b{3,200}|[[:digit:]]c){200}d*)+$\" is not valid (too many "
	 "repetitions within repetitions), expected a POSIX extended regular expression"},
	{"route r { user = '^\\d{6,}$' dns = true }", "t.conf:1: route \"r\": user: \"^\\d{6,}$\" is not valid "
						      "(\\d is no class of characters here, digits are "
						      "[0-9]), expected a POSIX extended regular expression"},
	{"route r { reject = \"99 No\" }", "t.conf:1: route \"r\": reject: \"99 No\" is not valid, expected a "
					   "status and reason such as \"403 Forbidden\", "
					   "the status from 300 to 699"},
	{"route r { reject = 200 }", "t.conf:1: route \"r\": reject: \"200\" is not valid, expected a status "
				     "and reason such as \"403 Forbidden\", "
				     "the status from 300 to 699"},
	{"route r { reject = \"403 a\\r\\nb\" }",
	 "t.conf:1: route \"r\": reject: contains the control character 0x0d, expected text"},
	/* targets */
	{"gateway g { target = {\"192.0.2.1\"} }", "t.conf:1: gateway \"g\": target: \"192.0.2.1\" is not a "
						   "target, expected a SIP URI such as sip:192.0.2.1, or "
						   "\"<sip:192.0.2.1>;weight=3\""},
	{"gateway g { target = {\"sip:a\",\n \"tel:+49\"} }",
	 "t.conf:2: gateway \"g\": target: \"tel:+49\" is not a target, expected a SIP URI such as "
	 "sip:192.0.2.1, or "
	 "\"<sip:192.0.2.1>;weight=3\""},
	{"gateway g { target = \"sips:a\" }", "t.conf:1: gateway \"g\": target: \"sips:a\" needs a listener of "
					      "its transport, expected a section listen \"tls:...\""},
	{"\nlisten \"udp:127.0.0.1:5060\" { }\n"
	 "gateway g { target = {sip:a, \"sip:b;transport=udp\", \"sip:c;transport=TCP\"} }",
	 "t.conf:3: gateway \"g\": target: \"sip:c;transport=TCP\" needs a listener of its transport, expected "
	 "a "
	 "section listen \"tcp:...\""},
	{"listen \"tcp:127.0.0.1:5060\" { } gateway g { target = \"sip:b;transport=udp\" }",
	 "t.conf:1: gateway \"g\": target: \"sip:b;transport=udp\" needs a listener of its transport, expected "
	 "a "
	 "section listen \"udp:...\""},
	{"gateway g { target = \"sip:a;transport=tls\" }",
	 "t.conf:1: gateway \"g\": target: \"sip:a;transport=tls\" needs a listener of its transport, expected "
	 "a "
	 "section listen \"tls:...\""},
	{"gateway g { target = \"sip:a;transport=sctp\" }",
	 "t.conf:1: gateway \"g\": target: \"sip:a;transport=sctp\" names an unknown transport, expected "
	 "transport=udp, tcp or tls"},
	{"gateway g { target = \"sips:a;transport=udp\" }",
	 "t.conf:1: gateway \"g\": target: \"sips:a;transport=udp\" cannot be: sips needs TLS, and UDP has "
	 "none"},
	{"gateway g { target = \"sip:a?x=y\" }",
	 "t.conf:1: gateway \"g\": target: \"sip:a?x=y\" has headers, expected a URI without \"?\""},
	{"gateway g { target = \"<sip:a>;weight=0\" }",
	 "t.conf:1: gateway \"g\": target: weight \"0\" is out of range, expected 1 to 1000"},
	{"gateway g { target = \"<sip:a>;q=1\" }",
	 "t.conf:1: gateway \"g\": target: unknown parameter \"q\", expected weight"},
	{"gateway g { }", "t.conf:1: gateway \"g\": target: is missing, expected at least one SIP URI"},
	/* titles */
	{"listen \"sctp:0.0.0.0:5060\" { }",
	 "t.conf:1: listen \"sctp:0.0.0.0:5060\": no known transport, expected udp:, tcp: or tls:ADDRESS:PORT"},
	{"listen \"0.0.0.0:5060\" { }",
	 "t.conf:1: listen \"0.0.0.0:5060\": no known transport, expected udp:, tcp: or tls:ADDRESS:PORT"},
	{"listen udp { }",
	 "t.conf:1: listen \"udp\": no known transport, expected udp:, tcp: or tls:ADDRESS:PORT"},
	{"listen \"udp:localhost:5060\" { }", "t.conf:1: listen \"udp:localhost:5060\": not an IP address and "
					      "port, expected for example udp:192.0.2.1:5060 or "
					      "udp:[2001:db8::1]:5060"},
	{"listen \"udp:127.0.0.1:0\" { }", "t.conf:1: listen \"udp:127.0.0.1:0\": not an IP address and port, "
					   "expected for example udp:192.0.2.1:5060 or "
					   "udp:[2001:db8::1]:5060"},
	{"domain \"a b\" { }", "t.conf:1: domain \"a b\": not a host name, expected one such as example.com"},
	{"route \"\" { dns = true }", "t.conf:1: route \"\": the title is empty, expected 1 to 255 bytes"},
	{"route \"a\\nb\" { dns = true }",
	 "t.conf:1: route \"a?b\": the title contains a control character, expected text"},
	/* sections together */
	{"\nlisten \"udp:127.0.0.1:5060\" { }\nlisten \"udp:127.0.0.1:05060\" { }",
	 "t.conf:3: listen \"udp:127.0.0.1:05060\": is given twice, expected different addresses (first in "
	 "line 2)"},
	{"listen \"tcp:127.0.0.1:5061\" { }\nlisten \"tls:127.0.0.1:5061\" { certificate = a key = b }",
	 "t.conf:2: listen \"tls:127.0.0.1:5061\": is given twice, expected different addresses (first in line "
	 "1)"},
	{"domain \"a.example\" { }\n\ndomain \"A.example\" { }",
	 "t.conf:3: domain \"A.example\": is given twice, expected different titles (first in line 1)"},
	{"gateway g { target = sip:a }\ngateway g { target = sip:b }",
	 "t.conf:2: gateway \"g\": is given twice, expected different titles (first in line 1)"},
	{"route r { dns = yes }\nroute r { dns = yes }",
	 "t.conf:2: route \"r\": is given twice, expected different titles (first in line 1)"},
	{"\nroute r {\n}\n",
	 "t.conf:2: route \"r\": does not say where to send requests, expected gateway, reject or dns = "
	 "true"},
	{"route r { dns = true\n reject = 403 }",
	 "t.conf:1: route \"r\": has reject and dns, expected only one of them"},
	{"route r { dns = true gateway = g }",
	 "t.conf:1: route \"r\": has gateway and dns, expected only one of them"},
	{"route r { gateway = g reject = 403 }",
	 "t.conf:1: route \"r\": has gateway and reject, expected only one of them"},
	{"route r { gateway = g reject = 403 dns = on }",
	 "t.conf:1: route \"r\": has gateway, reject and dns, expected only one of them"},
	{"gateway g { target = sip:a }\n# c\nroute r {\n gateway = h\n}",
	 "t.conf:3: route \"r\": gateway: \"h\" is not known, expected the title of a gateway section"},
	/* names */
	{"worker = 1", "t.conf:1: \"worker\" is not known, did you mean workers?"},
	{"timer { }", "t.conf:1: \"timer\" is not known, did you mean timers?"},
	{"xyzzy = 1", "t.conf:1: \"xyzzy\" is not known, expected an option or section of holdfast.conf(5)"},
	{"t1 = 1s", "t.conf:1: \"t1\" is not known here, expected in section timers"},
	{"store {\n workers = 1\n}",
	 "t.conf:2: store: \"workers\" is not known here, expected outside of sections"},
	{"route r {\n gatway = g\n}", "t.conf:2: route \"r\": \"gatway\" is not known, did you mean gateway?"},
	/* options of connections */
	{"listen \"udp:127.0.0.1:1\" {\n keepalive_idle = 30s\n}",
	 "t.conf:2: listen \"udp:127.0.0.1:1\": keepalive_idle: means nothing here, expected only with tcp and "
	 "tls"},
	{"listen \"udp:127.0.0.1:1\" {\n\n certificate = c\n}",
	 "t.conf:3: listen \"udp:127.0.0.1:1\": certificate: means nothing here, expected only with tls"},
	{"listen \"tcp:127.0.0.1:1\" {\n receive_buffer = 1m\n}",
	 "t.conf:2: listen \"tcp:127.0.0.1:1\": receive_buffer: means nothing here, expected only with udp"},
	{"listen \"tcp:127.0.0.1:1\" {\n handshake_timeout = 1s\n}",
	 "t.conf:2: listen \"tcp:127.0.0.1:1\": handshake_timeout: means nothing here, expected only with tls"},
	{"listen \"tcp:127.0.0.1:1\" {\n verify_client = none\n}",
	 "t.conf:2: listen \"tcp:127.0.0.1:1\": verify_client: means nothing here, expected only with tls"},
	{"\nlisten \"tls:0.0.0.0:5061\" { }",
	 "t.conf:2: listen \"tls:0.0.0.0:5061\": certificate: is missing, expected a file in PEM format"},
	{"listen \"tls:0.0.0.0:5061\" { key = k }",
	 "t.conf:1: listen \"tls:0.0.0.0:5061\": certificate: is missing, expected a file in PEM format"},
	{"listen \"tls:0.0.0.0:5061\" {\n certificate = {a, b}\n key = c }",
	 "t.conf:1: listen \"tls:0.0.0.0:5061\": key: has 1 files, expected one for each of 2 certificates"},
	{"listen \"tls:0.0.0.0:5061\" { certificate = a }",
	 "t.conf:1: listen \"tls:0.0.0.0:5061\": key: has 0 files, expected one for each of 1 certificates"},
	{"listen \"tls:0.0.0.0:5061\" { certificate = \"\" }",
	 "t.conf:1: listen \"tls:0.0.0.0:5061\": certificate: \"\" is not valid, expected a path"},
	{"listen \"tls:0.0.0.0:5061\" {\n verify_client = yes }",
	 "t.conf:2: listen \"tls:0.0.0.0:5061\": verify_client: \"yes\" is not known, expected none, optional "
	 "or "
	 "require"},
	{"listen \"tcp:127.0.0.1:1\" { keepalive_interval = 500ms }",
	 "t.conf:1: listen \"tcp:127.0.0.1:1\": keepalive_interval: \"500ms\" is out of range, expected a "
	 "duration "
	 "from 1s to 9h (units ms s m h d)"},
	{"listen \"tcp:127.0.0.1:1\" { keepalive_probes = 0 }",
	 "t.conf:1: listen \"tcp:127.0.0.1:1\": keepalive_probes: \"0\" is out of range, expected a whole "
	 "number "
	 "from 1 to 127"},
	{"listen \"tcp:127.0.0.1:1\" { queue_limit = 1k }",
	 "t.conf:1: listen \"tcp:127.0.0.1:1\": queue_limit: \"1k\" is out of range, expected a size from 64k "
	 "to 1g "
	 "(units k m g t)"},
	{"listen \"tcp:127.0.0.1:1\" { max_message = 65k }",
	 "t.conf:1: listen \"tcp:127.0.0.1:1\": max_message: \"65k\" is out of range, expected a size from 1k "
	 "to 64k "
	 "(units k m g t)"},
	{"writers = 0", "t.conf:1: writers: \"0\" is out of range, expected a whole number from 1 to 100000"},
	/* twice */
	{"workers = 1\nworkers = 2", "t.conf:2: workers: is given twice, expected once (first in line 1)"},
	{"timers { t1 = 1s }\ntimers { t1 = 2s }",
	 "t.conf:2: timers: t1: is given twice, expected once (first in line 1)"},
	{"route r { method = {A}\nmethod = {B}\ndns = yes }",
	 "t.conf:2: route \"r\": method: is given twice, expected once (first in line 1)"},
	{"workers = ${HF_NONE:-}",
	 "t.conf:1: workers: \"\" is not a number, expected a whole number from 0 to 256"},
	{"\nworkers = ${HF_NONE}",
	 "t.conf:2: the environment variable \"HF_NONE\" is not set, expected it or ${NAME:-default}"},
	{"route r { domain = \"a.${HF_NONE}\" }",
	 "t.conf:1: the environment variable \"HF_NONE\" is not set, expected it or ${NAME:-default}"},
	{"store { path = \"${}\" }",
	 "t.conf:1: the environment variable \"\" is not set, expected it or ${NAME:-default}"},
	/* syntax */
	{"workers 2", "t.conf:1: \"workers\" is followed by something else, expected \"=\""},
	{"workers = {2}", "t.conf:1: \"{\" is out of place, expected a name, a value, \",\" or \"}\""},
	{"route r { method = {A B} }",
	 "t.conf:1: route \"r\": \"B\" is out of place, expected a name, a value, \",\" or \"}\""},
	{"workers += 2", "t.conf:1: workers is not a list, expected \"=\""},
	{"route { dns = true }", "t.conf:1: section route has no title, expected one in quotes before \"{\""},
	{"route r dns = true", "t.conf:1: section route has no content, expected \"{\""},
	{"workers =", "t.conf:1: premature end of file"},
	{"workers = 2\n}", "t.conf:2: \"}\" closes nothing"},
	{"workers = 1\nroute r {\n dns = true\n", "t.conf:2: \"{\" is never closed, expected \"}\""},
	{"\n/* x\nworkers = 2\n", "t.conf:2: the comment is never closed, expected \"*/\""},
	{"\nstore { path = \"a\n}", "t.conf:2: the string is not closed on its line, expected '\"'"},
	{"store { path = 'a", "t.conf:1: the string is not closed on its line, expected \"'\""},
	{"store { path = \"a\\", "t.conf:1: the string is not closed on its line, expected '\"'"},
	{"store { path = \"${A\"\n}", "t.conf:1: \"${\" is not closed on its line, expected \"}\""},
	{"store { path = /a/${A} }",
	 "t.conf:1: \"${...}\" is only a part of the value, expected double quotes around the whole"},
	{"store { path = ${PATH}/a }",
	 "t.conf:1: \"${...}\" is only a part of the value, expected double quotes around the whole"},
	{"workers = +2", "t.conf:1: \"+\", \"*\" and the like are only allowed in a string, expected quotes"},
	{"store { path = /a/*b }",
	 "t.conf:1: \"+\", \"*\" and the like are only allowed in a string, expected quotes"},
	{"workers = 2\rx", "t.conf:1: a carriage return without a line feed"},
	{"workers = 2\001", "t.conf:1: a control character, expected text"},
	{"route r { { { { { } } } } }", "t.conf:1: too many braces within each other"},
	{"store { path = \"\\779\" }", "t.conf:1: store: bad escape sequence '\\779'"},
};

static void test_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		bad_with(errors[i].text, &none, errors[i].line);
}

static void test_nul_byte(void **state)
{
	struct config *c = NULL;

	(void)state;
	put("workers = 2\0\n", 13);
	assert_int_equal(config_load("t.conf", &none, &c, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "t.conf:1: a control character, expected text");
}

/* The line is cut to its room and always ended. */
static void test_error_room(void **state)
{
	struct config *c = NULL;

	(void)state;
	put("xyzzy = 1", 9);
	for (size_t n = 0; n < 60; n++) {
		memset(err, 'x', sizeof(err));
		assert_int_equal(config_load("t.conf", &none, &c, err, n), -EINVAL);
		assert_int_equal(err[n], 'x');
		if (n)
			assert_true(strlen(err) < n);
	}
}

static void test_file_missing(void **state)
{
	struct config *c = NULL;

	(void)state;
	assert_int_equal(config_load("none.conf", &none, &c, err, sizeof(err)), -ENOENT);
	assert_string_equal(err, "none.conf: No such file or directory");
	assert_int_equal(config_load(".", &none, &c, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, ".: Is a directory");
	put("", 0);
	assert_int_equal(chmod("t.conf", 0), 0);
	if (geteuid() != 0) { /* root may read everything */
		assert_int_equal(config_load("t.conf", &none, &c, err, sizeof(err)), -EACCES);
		assert_string_equal(err, "t.conf: Permission denied");
	}
	assert_int_equal(unlink("t.conf"), 0);
	assert_null(c);
}

static void test_override_errors(void **state)
{
	const char *tls = "tls:0.0.0.0:5061", *sctp = "sctp:0.0.0.0:5060",
		   *twice[] = {"udp:127.0.0.1:1", "udp:127.0.0.1:1"}, *space = "a b";
	const struct {
		struct config_overrides ov;
		const char *line;
	} cases[] = {
		{{&sctp, 1, NULL, 0, NULL, -1, NULL},
		 "command line: -l \"sctp:0.0.0.0:5060\": no known transport, expected udp:, tcp: or "
		 "tls:ADDRESS:PORT"},
		{{&tls, 1, NULL, 0, NULL, -1, NULL},
		 "command line: -l \"tls:0.0.0.0:5061\": certificate: is missing, expected a file in PEM "
		 "format, in "
		 "the configuration file's section of the same title"},
		{{twice, 2, NULL, 0, NULL, -1, NULL},
		 "command line: -l \"udp:127.0.0.1:1\": is given twice, expected different addresses"},
		{{NULL, 0, &space, 1, NULL, -1, NULL},
		 "command line: -d \"a b\": not a host name, expected one such as example.com"},
		{{NULL, 0, NULL, 0, "", -1, NULL}, "command line: -s: \"\" is not valid, expected a path"},
		{{NULL, 0, NULL, 0, NULL, 1000, NULL},
		 "command line: -w: \"1000\" is out of range, expected a whole number from 0 to 256"},
		{{NULL, 0, NULL, 0, NULL, -1, "loud"},
		 "command line: -L: \"loud\" is not known, expected error, warning, info or debug"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		bad_with("workers = 1", &cases[i].ov, cases[i].line);
}

static void test_limits(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	for (unsigned i = 0; i < 65; i++)
		fprintf(f, "listen \"udp:127.0.0.1:%u\" { }\n", 1000 + i);
	assert_int_equal(fclose(f), 0);
	bad_with(text, &none,
		 "t.conf:65: listen \"udp:127.0.0.1:1064\": too many listen sections, expected at most 64");
	free(text);

	f = open_memstream(&text, &len);
	fputs("gateway g { target = {", f);
	for (unsigned i = 0; i < 65; i++)
		fprintf(f, "%s\nsip:a%u", i ? "," : "", i);
	fputs("} }", f);
	assert_int_equal(fclose(f), 0);
	bad_with(text, &none, "t.conf:66: gateway \"g\": target: has too many values, expected at most 64");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),          cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_error_room),      cmocka_unit_test(test_file_missing),
		cmocka_unit_test(test_override_errors), cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
