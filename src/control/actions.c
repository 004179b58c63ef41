/* What the control socket does. Runs on its thread; main does what is its own. */
#include <errno.h>

#include "control_p.h"
#include "takeover.h"
#include "transport/conn.h"

static void command_run(struct control_call *c, struct command *cmd, struct control_answer *a)
{
	if (!commands_run(&c->control->server->commands, cmd))
		control_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, "the proxy is ending");
	else if (cmd->rc < 0)
		control_error(a, MHD_HTTP_CONFLICT, cmd->text);
	else
		a->body = json_pack("{s:s, s:I, s:I}", "result", cmd->text, "setting_up",
				    (json_int_t)atomic_load(&c->control->server->shared.inflight),
				    "established", (json_int_t)server_dialogs(c->control->server));
}

static void command(struct control_call *c, enum command_kind kind, struct control_answer *a)
{
	struct command cmd = {.kind = kind};
	command_run(c, &cmd, a);
}

void action_drain(struct control_call *c, struct control_answer *a)
{
	command(c, COMMAND_DRAIN, a);
}

void action_undrain(struct control_call *c, struct control_answer *a)
{
	command(c, COMMAND_UNDRAIN, a);
}

void action_reload(struct control_call *c, struct control_answer *a)
{
	command(c, COMMAND_RELOAD, a);
}

/* With ?to=PATH by the new process, which listens there; without by holdfastctl: then we start one. */
void action_takeover(struct control_call *c, struct control_answer *a)
{
	struct command cmd = {.kind = COMMAND_TAKEOVER};
	const char *to = control_arg(c, "to");

	if (to && strlen(to) >= sizeof(cmd.text)) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "the path is too long");
		return;
	}
	if (to) {
		struct server *s = c->control->server;
		pthread_mutex_lock(&s->report);
		int rc = takeover_look(s->config, slice_make(c->body, c->len), cmd.text, sizeof(cmd.text));
		pthread_mutex_unlock(&s->report);
		if (rc < 0) {
			control_error(a, MHD_HTTP_CONFLICT, cmd.text);
			return;
		}
	}
	memcpy(cmd.text, to ? to : "", strlen(to ? to : "") + 1);
	command_run(c, &cmd, a);
}

void action_close(struct control_call *c, struct control_answer *a)
{
	struct streams *s = c->control->server->streams;
	const char *text = control_arg(c, "id");
	struct conn *conn = NULL;
	uint64_t id;

	if (!text || !slice_u64(slice_str(text), UINT64_MAX, &id)) {
		control_error(a, MHD_HTTP_BAD_REQUEST, "the number of a connection is needed");
		return;
	}
	if (s)
		conn = streams_get(s, id);
	if (!conn) {
		control_error(a, MHD_HTTP_NOT_FOUND, "there is no such connection");
		return;
	}
	conn_close(conn, CONN_ADMIN);
	conn_put(conn);
	a->body = json_pack("{s:s}", "result", "closed");
}
