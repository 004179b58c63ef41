#include "command.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int commands_init(struct commands *c)
{
	c->at = NULL;
	c->closed = false;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c->event < 0 ? -errno : 0;
}

void commands_deinit(struct commands *c)
{
	if (c->event >= 0)
		close(c->event);
	c->event = -1;
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}

bool commands_run(struct commands *c, struct command *cmd)
{
	pthread_mutex_lock(&c->lock);
	while (c->at && !c->closed)
		pthread_cond_wait(&c->changed, &c->lock);
	if (!c->closed) {
		cmd->done = false;
		c->at = cmd;
		eventfd_write(c->event, 1);
		while (!cmd->done && !c->closed)
			pthread_cond_wait(&c->changed, &c->lock);
		if (c->at == cmd)
			c->at = NULL;
		pthread_cond_broadcast(&c->changed);
	}
	bool done = cmd->done;
	pthread_mutex_unlock(&c->lock);
	return done;
}

struct command *commands_take(struct commands *c)
{
	eventfd_t n;

	eventfd_read(c->event, &n);
	pthread_mutex_lock(&c->lock);
	struct command *cmd = c->at && !c->at->done ? c->at : NULL;
	pthread_mutex_unlock(&c->lock);
	return cmd;
}

void commands_done(struct commands *c, struct command *cmd)
{
	pthread_mutex_lock(&c->lock);
	cmd->done = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

void commands_close(struct commands *c)
{
	pthread_mutex_lock(&c->lock);
	c->closed = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}
