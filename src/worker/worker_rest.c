#include "worker/worker.h"

#include "base/container.h"
#include "worker/worker_state.h"

static struct fz_worker *
worker_of(const struct fz_list *link)
{
	return FZ_CONTAINER_OF(link, struct fz_worker, resting);
}

bool
fz_worker_rests(const struct fz_worker *worker)
{
	return fz_list_is_linked(&worker->resting);
}

void
fz_worker_rest(struct fz_worker *worker, bool rests)
{
	struct fz_engine *engine = worker->private->opts.engine;

	if (rests == fz_worker_rests(worker))
		return;
	if (worker->njobs != 0)
		fz_loop_busy(engine->loop, !rests);
	if (rests)
		fz_list_push(&engine->resting, &worker->resting);
	else
		fz_list_remove(&worker->resting);
}

static unsigned
count(const struct fz_worker_private *p)
{
	const struct fz_watch *watches[] = { &p->link->in, &p->link->out,
		&p->death, &p->output.pipes[0].watch,
		&p->output.pipes[1].watch };
	const struct fz_timer *timers[] = { &p->timer, &p->force, &p->half };
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(watches) / sizeof(*watches); i++)
		n += watches[i]->fd != -1 ? 1 : 0;
	for (size_t i = 0; i < sizeof(timers) / sizeof(*timers); i++)
		n += timers[i]->index != 0 ? 1 : 0;
	return n;
}

unsigned
fz_worker_nresting(const struct fz_engine *engine)
{
	const struct fz_list *head = &engine->resting;
	unsigned n = 0;

	for (const struct fz_list *l = head->next; l != head; l = l->next)
		n += count(worker_of(l)->private);
	return n;
}

bool
fz_worker_is_resting(const struct fz_engine *engine, pid_t pid)
{
	const struct fz_list *head = &engine->resting;

	for (const struct fz_list *l = head->next; l != head; l = l->next) {
		if (worker_of(l)->pid == pid)
			return true;
	}
	return false;
}
