#include "os/process.h"

/* All zero but for what PTHREAD_MUTEX_INITIALIZER may have. */
struct fz_process fz_process = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.spawning = PTHREAD_MUTEX_INITIALIZER };

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
 * The child's thread holds `lock` since before the fork; a thread that is not
 * in the child may hold `spawning`.
 */
static void
in_child(void)
{
	fz_process_unlock();
	fz_process.spawning = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	fz_process.nlate = 0; /* they are children of the parent */
	fz_process.late_workers = false;
	fz_process.generation++;
	if (fz_process.heap.nforeign != NULL)
		atomic_fetch_add(fz_process.heap.nforeign, 1);
}

void
fz_process_own_fork(void)
{
	if (fz_process.watched && fz_process.heap.nforeign != NULL)
		atomic_fetch_sub(fz_process.heap.nforeign, 1);
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
