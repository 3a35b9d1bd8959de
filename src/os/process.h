/*
 * process.h - the state that a process has once, however many instances of the
 * library (Lua states with an engine) it runs, and in however many threads.
 *
 * This is the only writable object of the library apart from caches and the
 * state of the command, which tools/statics.lua lists. All that belongs to one
 * instance is in its engine or its Lua state. There is no pointer to this
 * object in the engine, because signal handlers, fork handlers, fz_fd_close()
 * and the references in the shared heap reach it without one.
 *
 * How each part is safe with several threads stands beside it. "Before the
 * threads": a program writes it once at its start, before it starts a thread.
 * "In a child": a forked child has one thread while it is set up.
 */
#ifndef FZ_PROCESS_H
#define FZ_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/list.h"

enum {
	FZ_PROCESS_FDS = 1 << 20, /* private ones have lower numbers: fd.h */
	FZ_PROCESS_LATE = 64,     /* processes and groups to reap later */
};

/*
 * The mapping of the shared heap, for shared/heap. It changes under `lock`
 * while no instance uses the heap, so that an instance that does reads it
 * without.
 */
struct fz_process_heap {
	unsigned char *base; /* NULL: it is not mapped */
	_Atomic uint64_t *owners;
	unsigned char *blocks;
	size_t size;
	int fd; /* -1 once it is mapped, if the kernel needs it no more */
	/*
	 * The file for programs that this process starts: a descriptor of the
	 * process `keeper`, which has mapped it first. Its forks do not have
	 * it.
	 */
	int kept_fd;
	pid_t keeper;
	int wake_fd;       /* set if it is mapped */
	unsigned nholders; /* instances that have acquired it; under `lock` */
	bool left_locked;  /* a thread may hold a lock in it; under `lock` */
	pid_t failed; /* pid of the process that failed to open it; 0: none */
	/*
	 * In the heap: number of processes that inherited it and were forked
	 * by other code than the library, alive or dead. NULL: not mapped.
	 */
	_Atomic uint32_t *nforeign;
	_Atomic int64_t reclaim_ns; /* when to reclaim again */
};

/*
 * Called in a child that other code has forked, such as the host, by the fork
 * handler: what it may do is limited, and it may not allocate.
 */
struct fz_foreign_fork {
	void (*in_child)(struct fz_foreign_fork *foreign);
	struct fz_list link; /* in fz_process.foreign */
};

struct fz_process {
	/* Guards parts as they say; never held when a child is forked. */
	pthread_mutex_t lock;
	/*
	 * Held from the first pipe to a new child until the child's ends are
	 * closed here, so that the child of another instance inherits no end:
	 * a copy of it would hide that the child has died.
	 */
	pthread_mutex_t spawning;
	bool watched; /* the fork handlers are installed; under `lock` */
	/*
	 * Differs in each process that was forked since the fork handlers were
	 * installed, so that an object with another one is an inherited copy.
	 * In a child.
	 */
	uint32_t generation;
	struct fz_list foreign; /* of fz_foreign_fork; under `lock` */
	/* Of proc: the process is a subreaper while it has children. */
	bool adopts;      /* before the threads */
	size_t nunreaped; /* children; under `lock` */
	/*
	 * What was killed and is not reaped: processes, and groups of dead
	 * children, as numbers for waitpid(); under `lock`.
	 */
	pid_t late[FZ_PROCESS_LATE];
	size_t nlate;
	bool late_workers; /* of dead workers; under `lock` */
	/*
	 * Dead children that may have left processes which are not killed yet;
	 * under `lock`.
	 */
	pid_t late_parents[FZ_PROCESS_LATE];
	size_t nlate_parents;
	pid_t parent; /* that forked this process; 0: another program did. In a
			 child, and read by its signal handlers. */
	unsigned depth;    /* of fz_proc_fork() calls; in a child */
	bool catches_exit; /* exit() is caught; in a child */
	char mark[40]; /* environment entry FZ_PROC_MARK, "" for none; before
			  the threads, and in a child */
	/*
	 * The soft limit of descriptors before it was raised; rlim_max is 0
	 * until then. Before the threads.
	 */
	struct rlimit old_fd_limit;
	/*
	 * The path of the fzlua command if this process is one, for programs
	 * that workers are; else NULL. Before the threads.
	 */
	const char *program;
	struct fz_process_heap heap;
	/* Of fd: one bit for each private descriptor. */
	_Atomic int nprivate; /* words up to the last one that had a bit */
	_Atomic uint64_t private_fds[FZ_PROCESS_FDS / 64];
	/* The private descriptors are those of the parent. In a child. */
	bool inherits_private;
};

extern struct fz_process fz_process;

/* Lock and unlock fz_process.lock. */
void fz_process_lock(void);
void fz_process_unlock(void);

/* Around the start of a child: hold and release fz_process.spawning. */
void fz_process_begin_spawn(void);
void fz_process_end_spawn(void);

/*
 * Install the fork handlers: in each child, also one of the host, the locks are
 * free and the generation is another. 0, or an errno. A second call does
 * nothing.
 */
int fz_process_watch_forks(void);

/*
 * Before a fork by the library, and after it in both processes: the child does
 * not count as foreign, and sets itself up.
 */
void fz_process_begin_fork(void);
void fz_process_end_fork(void);

/*
 * Call foreign->in_child() in each child that other code forks; NULL: do not.
 */
void fz_process_add_foreign(struct fz_foreign_fork *foreign);
void fz_process_remove_foreign(struct fz_foreign_fork *foreign);

#endif
