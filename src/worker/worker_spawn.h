/* worker_spawn.h - starts a worker: its link, its process, its output. */
#ifndef FZ_WORKER_SPAWN_H
#define FZ_WORKER_SPAWN_H

struct fz_err;
struct fz_worker_pipes;

/*
 * Open the link and fork the worker's process. 0, or -1 and `err`, then what
 * was opened is in `p` for fz_worker_free().
 */
int fz_worker_spawn(struct fz_worker_pipes *p, struct fz_err *err);

#endif
