/*
 * heap.h - memory that all processes of one run share.
 *
 * One sparse memfd without a name. The first process maps it before it forks,
 * so that every process that descends from it has it. It is gone with the last
 * of them.
 *
 * Each instance of the library that uses it is a member: that of a process, or
 * one of several in a process. A process may be killed at any instruction, so
 * that each change to what is shared is one store or one compare-and-swap:
 *
 *   members  each holds a robust mutex as long as it lives
 *   blocks   64 KiB; one word says whether a block is free, or which member or
 *            object owns it
 *   objects  a lock, a queue, ...: small ones share a block of their
 *            creator, others in blocks of their own; both may own more blocks
 *
 * There is one heap per process. Each member uses it in one thread at a time.
 */
#ifndef FZ_HEAP_H
#define FZ_HEAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/eventcount.h"
#include "shared/ref.h"

struct fz_err;

#define FZ_HEAP_BLOCK ((size_t)64 << 10)
#define FZ_HEAP_SMALL ((size_t)256) /* bytes of a small object */
#define FZ_HEAP_MEMBERS 4096        /* at once */
#define FZ_HEAP_SEATS 16384         /* for further waits of members */

/*
 * Map the heap, unless this process has, or has inherited it. Call it before
 * the first fork, so that all processes share one. 0, or -1 and `err`.
 */
int fz_heap_open(struct fz_err *err);

/* How a program that a process starts gets the heap of that process. */
struct fz_heap_files {
	int file, wake; /* descriptors that it inherits; -1: there is no heap */
	pid_t keeper;   /* the process that has mapped the heap first, */
	int kept;       /* and its descriptor of the file */
	bool opened;    /* fz_heap_close_files() closes `file` */
};

/* The files for such a program; close them after its start. */
void fz_heap_open_files(struct fz_heap_files *files);
void fz_heap_close_files(struct fz_heap_files *files);

/*
 * In such a program, before any other use: map the heap, and own the
 * descriptors. If there is none, or it cannot be mapped, this process cannot
 * share anything.
 */
void fz_heap_inherit(const struct fz_heap_files *files);

/* The part of one instance in the heap. All zero at first. */
struct fz_membership {
	bool acquired;         /* between fz_heap_acquire() and _release() */
	uint32_t number;       /* 0: it has not joined */
	uint32_t generation;   /* of the process that has: a child has not */
	unsigned char *small;  /* its own block of small objects; NULL: none */
	size_t next_small;     /* the first one in it that may be free */
	struct fz_ref dropped; /* list of objects to be freed later, by next */
	uint32_t free_seat;    /* the first one of its seats; 0: none */
	uint32_t task;         /* number of the task that runs; 0: none */
};

/*
 * An engine acquires the heap at its start, opened or not, and releases it at
 * its end: its objects that were not sent are free then. The last one of a
 * process closes the heap.
 */
void fz_heap_acquire(struct fz_membership *own);
void fz_heap_release(struct fz_membership *own);

/*
 * Become a member, unless this instance is one; that of a forked child is none.
 * Opens the heap. Returns its number, or 0 and `err`.
 */
uint32_t fz_heap_join(struct fz_membership *own, struct fz_err *err);

/* The number of this instance; 0: it has not joined. */
static inline uint32_t
fz_heap_self(const struct fz_membership *own)
{
	return own->generation == fz_process.generation ? own->number : 0;
}

/* Whether the member that has, or had, that number lives. */
bool fz_heap_alive(uint32_t member);

/*
 * Whether no member lives but `self` and those in processes for which
 * `ignores` is true. False also if other code than the library has forked a
 * process that has the heap: it, or a child of it, may live and become a
 * member.
 */
bool fz_heap_is_alone(uint32_t self,
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

/* Whether no other instance, dead or alive, was ever a member. */
bool fz_heap_is_only(uint32_t self);

/* The place of a member, below FZ_HEAP_MEMBERS; reused after its death. */
uint32_t fz_heap_place(uint32_t member);

/* All places that were ever used are below this. */
uint32_t fz_heap_nplaces(void);

/*
 * What a member waits for, if other members choose whom to wake: see waiter.h.
 * Each member has one at its place, and more, called seats, if several of its
 * tasks wait. Seats have the numbers from FZ_HEAP_MEMBERS.
 */
struct fz_heap_wait {
	_Atomic uint32_t member;     /* that it belongs to; 0: it is free */
	_Atomic uint32_t what;       /* name of the object; 0: none */
	_Atomic uint64_t ticket;     /* 0: none */
	struct fz_eventcount wakeup; /* where the member sleeps */
};

/* The wait at a place, or that of a seat. */
struct fz_heap_wait *fz_heap_wait(uint32_t number);

/* All seats that were ever used are below this. */
uint32_t fz_heap_nseats(void);

/* A seat for this member. 0: all are in use, or there is no memory. */
uint32_t fz_heap_take_seat(struct fz_membership *own);
void fz_heap_free_seat(struct fz_membership *own, uint32_t number);

/* What each object begins with. */
struct fz_object {
	_Atomic uint32_t type; /* 0: a free small object */
	uint32_t generation;   /* differs for each object */
	_Atomic uint32_t sent; /* as a value: any process may receive it */
	uint32_t maker;        /* the member that created it */
	/* For the creator: its handles, its forks before, and a list. */
	_Atomic uint32_t handles;
	_Atomic uint32_t owns; /* not 0: it has owned other blocks */
	uint64_t forks;
	struct fz_ref next;
};

/*
 * A new object of `size` bytes, all zero behind the head. The caller chooses
 * `type`, which is not 0. NULL and `err` if there is no memory.
 */
void *fz_heap_new(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err);

/*
 * Free an object that this member has created, and all blocks that it owns. No
 * process may be using it.
 */
void fz_heap_free(struct fz_membership *own, struct fz_object *object);

/*
 * A random number of this heap, so that a name of an object in another heap is
 * recognised; UINT32_MAX: there is no heap.
 */
#define FZ_HEAP_ID_MAX 0xffffffU
uint32_t fz_heap_id(void);

/* The name of an object in every process; not 0. */
uint32_t fz_heap_name(const struct fz_object *object);

/* The object of that name; NULL if it was freed. */
struct fz_object *fz_heap_find(
    uint32_t name, uint32_t generation, uint32_t type);

/*
 * At least `size` bytes, not zeroed, in whole blocks that the member `self`
 * owns: if it dies before it sets another owner, they are free again. NULL and
 * `err`.
 */
void *fz_heap_alloc(uint32_t self, size_t size, struct fz_err *err);

/* The object, or the member `self`, owns the blocks from now on. */
void fz_heap_set_owner(void *blocks, struct fz_object *object);
void fz_heap_own(void *blocks, uint32_t self);

/* Free the blocks of a member that `size` bytes do not need. */
void fz_heap_trim(void *blocks, size_t size);

/* Free what fz_heap_alloc() has returned, whatever its owner is now. */
void fz_heap_give_back(void *blocks);

/* The number of bytes that the blocks have. */
size_t fz_heap_capacity(const void *blocks);

/* Bytes in blocks that are owned; about, after a process was killed. */
size_t fz_heap_used(void);

/*
 * fz_heap_wake_all() makes this descriptor readable in all processes. Poll it
 * by edge (EPOLLET), because no process reads it. -1 while the heap is closed.
 */
int fz_heap_wake_fd(void);
void fz_heap_wake_all(void);

#endif
