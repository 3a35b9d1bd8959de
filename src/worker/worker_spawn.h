/* worker_spawn.h - how a worker comes to be: its pipes, its fork, what is
 * watched. */
#ifndef FZ_WORKER_SPAWN_H
#define FZ_WORKER_SPAWN_H

struct fz_err;
struct fz_worker_pipes;

/*
 * Fork the worker's process and watch its pipes. 0, or -1 and `err`, then
 * what was opened is in `p` for fz_worker_free().
 */
int fz_worker_spawn(struct fz_worker_pipes *p, struct fz_err *err);

#endif
