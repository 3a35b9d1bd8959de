#include "os/process.h"

#include "base/container.h"

/* All fields are zero, except the mutexes and the empty list. */
struct fz_process fz_process = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.spawning = PTHREAD_MUTEX_INITIALIZER,
	.foreign = { &fz_process.foreign, &fz_process.foreign } };

/* Whether this thread is in fz_proc_fork(). */
static _Thread_local bool own_fork;

void
fz_process_lock(void)
{
	pthread_mutex_lock(&fz_process.lock);
}

void
fz_process_unlock(void)
{
	pthread_mutex_unlock(&fz_process.lock);
}

void
fz_process_begin_spawn(void)
{
	pthread_mutex_lock(&fz_process.spawning);
}

void
fz_process_end_spawn(void)
{
	pthread_mutex_unlock(&fz_process.spawning);
}

/*
 * The thread that forked has acquired `lock` before the fork, so the child's
 * thread holds it. `spawning` may be held by a thread that is not in the child.
 */
static void
in_child(void)
{
	fz_process_unlock();
	fz_process.spawning = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	/* the parent's children are not children of this process */
	fz_process.nlate = 0;
	fz_process.nlate_parents = 0;
	fz_process.late_workers = false;
	fz_process.nunreaped = 0;
	fz_process.generation++;
	fz_process.inherits_private = true;
	if (own_fork)
		return;
	if (fz_process.heap.nforeign != NULL)
		atomic_fetch_add(fz_process.heap.nforeign, 1);
	for (struct fz_list *link = fz_process.foreign.next;
	     link != &fz_process.foreign; link = link->next) {
		struct fz_foreign_fork *foreign =
		    FZ_CONTAINER_OF(link, struct fz_foreign_fork, link);

		foreign->in_child(foreign);
	}
}

void
fz_process_begin_fork(void)
{
	own_fork = true;
}

void
fz_process_end_fork(void)
{
	own_fork = false;
}

void
fz_process_add_foreign(struct fz_foreign_fork *foreign)
{
	fz_process_lock();
	fz_list_push(&fz_process.foreign, &foreign->link);
	fz_process_unlock();
}

void
fz_process_remove_foreign(struct fz_foreign_fork *foreign)
{
	fz_process_lock();
	fz_list_remove(&foreign->link);
	fz_process_unlock();
}

int
fz_process_watch_forks(void)
{
	int code = 0;

	fz_process_lock();
	if (!fz_process.watched)
		code = pthread_atfork(
		    fz_process_lock, fz_process_unlock, in_child);
	fz_process.watched = code == 0;
	fz_process_unlock();
	return code;
}
