/*
 * heap.h - memory that all processes of one run share.
 *
 * It is one sparse memfd without a name. The first process maps it before it
 * forks, so that all its descendants have it. The memfd is gone with the last
 * of these processes.
 *
 * Each instance of the library that uses the heap is a member; a process may
 * have several members. A process may be killed at any instruction, so
 * each change to shared memory is one store or one compare-and-swap:
 *
 *   members each holds a robust mutex while it lives
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
#define FZ_HEAP_MEMBERS 4096        /* members at the same time */
#define FZ_HEAP_SEATS 16384         /* places for further waits of members */

/*
 * Map the heap, unless this process has done so or has inherited it. Call it
 * before the first fork, so that all processes share one heap. 0, or -1 and
 * `err`.
 */
int fz_heap_open(struct fz_err *err);

/* How a program that this process starts gets the heap. */
struct fz_heap_files {
	/* descriptors that the program inherits; -1: there is no heap */
	int file, wake;
	pid_t keeper; /* the process that mapped the heap first */
	int kept;     /* the descriptor of the file in that process */
	bool opened;  /* whether fz_heap_close_files() closes `file` */
};

/*
 * For a program that this process starts: fz_heap_open_files() gets the files
 * before the start, fz_heap_close_files() is called after it.
 */
void fz_heap_open_files(struct fz_heap_files *files);
void fz_heap_close_files(struct fz_heap_files *files);

/*
 * In a program that was started with these files, before any other use: map the
 * heap, and own the descriptors. If there is no heap, or if it cannot be
 * mapped, this process cannot share anything.
 */
void fz_heap_inherit(const struct fz_heap_files *files);

/* The part of one instance in the heap. All zero at first. */
struct fz_membership {
	/* set between fz_heap_acquire() and fz_heap_release() */
	bool acquired;
	uint32_t number; /* number of the member; 0: it has not joined */
	uint32_t owner;  /* number under which it owns blocks; 0: none */
	/* generation of the process that has joined: a forked child has not */
	uint32_t generation;
	unsigned char *small; /* the block for its small objects; NULL: none */
	/* index of the first object in that block that may be free */
	size_t next_small;
	/* list of objects to be freed later, linked by `next` */
	struct fz_ref dropped;
	uint32_t free_seat; /* the first free seat; 0: none */
	uint32_t task;      /* number of the task that runs; 0: none */
};

/*
 * An engine acquires the heap at its start, whether or not the heap is open,
 * and releases it at its end. The release frees the objects of the engine that
 * were not sent. The last release in a process closes the heap.
 */
void fz_heap_acquire(struct fz_membership *own);
void fz_heap_release(struct fz_membership *own);

/*
 * Become a member, unless this instance is one already. In a forked child the
 * instance is not yet a member. Opens the heap. Returns the number of the
 * member, or 0 and fills `err`.
 */
uint32_t fz_heap_join(struct fz_membership *own, struct fz_err *err);

/* The number of this instance as a member; 0 if it has not joined. */
static inline uint32_t
fz_heap_self(const struct fz_membership *own)
{
	return own->generation == fz_process.generation ? own->number : 0;
}

/* Whether the member with that number is alive. */
bool fz_heap_alive(uint32_t member);

/*
 * Whether `self` is the only living member that shares, apart from members in
 * processes for which `ignores` is true. Also false if code outside the library
 * has forked a process that has the heap, because that process, or a child of
 * it, may be alive and become a member.
 */
bool fz_heap_is_alone(uint32_t self,
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

/*
 * Whether no other instance, dead or alive, has ever been a member that shares.
 */
bool fz_heap_is_only(uint32_t self);

/*
 * The place of a member, below FZ_HEAP_MEMBERS; reused after the member's
 * death.
 */
uint32_t fz_heap_place(uint32_t member);

/* A number above all places that were ever used. */
uint32_t fz_heap_nplaces(void);

/*
 * The wait of a member for an object, if another member chooses which waiter to
 * wake (waiter.h). Each member has one wait at its place and, if several of its
 * tasks wait, further ones, called seats. Seats have the numbers from
 * FZ_HEAP_MEMBERS on.
 */
struct fz_heap_wait {
	/* the member that it belongs to; 0: it is free */
	_Atomic uint32_t member;
	_Atomic uint32_t what; /* name of the object; 0: none */
	/* the state of the wait, as waiter.c encodes it; 0: none */
	_Atomic uint64_t ticket;
	struct fz_eventcount wakeup; /* the member sleeps here */
};

/* The wait of the place, or of the seat, with this number. */
struct fz_heap_wait *fz_heap_wait(uint32_t number);

/* A number above all seats that were ever used. */
uint32_t fz_heap_nseats(void);

/*
 * Acquire a seat for this member. 0 if all are in use, or if there is no
 * memory.
 */
uint32_t fz_heap_take_seat(struct fz_membership *own);
void fz_heap_free_seat(struct fz_membership *own, uint32_t number);

/* The head of each object. */
struct fz_object {
	_Atomic uint32_t type; /* type of the object; 0: a free small object */
	uint32_t generation;   /* differs for each object */
	/* the object was sent as a value, so any process may receive it */
	_Atomic uint32_t sent;
	uint32_t maker; /* the member that created it */
	/*
	 * `handles` is the number of handles of the creator, `forks` the number
	 * of its forks before it made the object. Only the creator uses these
	 * and the list `next`.
	 */
	_Atomic uint32_t handles;
	/* not 0: it owns, or has owned, further blocks */
	_Atomic uint32_t owns;
	uint64_t forks;
	struct fz_ref next;
};

/*
 * A new object of `size` bytes, all zero after its head. The caller chooses
 * `type`, which is not 0. NULL and `err` if there is no memory.
 */
void *fz_heap_new(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err);

/*
 * As fz_heap_new(), for an object without handles. Such an object does not make
 * the instance a member that shares: fz_heap_is_alone() ignores the instance.
 */
void *fz_heap_new_quiet(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err);

/* Whether any process has made an object by fz_heap_new_quiet(). */
bool fz_heap_has_quiet(void);

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

/* The name of an object, the same in every process; never 0. */
uint32_t fz_heap_name(const struct fz_object *object);

/* The object with that name; NULL if it was freed. */
struct fz_object *fz_heap_find(
    uint32_t name, uint32_t generation, uint32_t type);

/*
 * At least `size` bytes, not zeroed, in whole blocks that the member `self`
 * owns. If the member dies before it sets another owner, the blocks are freed.
 * NULL and `err` on failure.
 */
void *fz_heap_alloc(uint32_t self, size_t size, struct fz_err *err);

/* The object, or the member `self`, owns the blocks from now on. */
void fz_heap_set_owner(void *blocks, struct fz_object *object);
void fz_heap_own(void *blocks, uint32_t self);

/* Free the blocks of a member that `size` bytes do not need. */
void fz_heap_trim(void *blocks, size_t size);

/* Free blocks that fz_heap_alloc() has returned, whoever owns them now. */
void fz_heap_give_back(void *blocks);

/* The number of bytes that the blocks have. */
size_t fz_heap_capacity(const void *blocks);

/*
 * Bytes in blocks that have an owner; an estimate after a process was killed.
 */
size_t fz_heap_used(void);

/*
 * fz_heap_wake_all() makes this descriptor readable in all processes. Poll it
 * by edge (EPOLLET), because no process reads it. -1 while the heap is closed.
 */
int fz_heap_wake_fd(void);
void fz_heap_wake_all(void);

#endif
