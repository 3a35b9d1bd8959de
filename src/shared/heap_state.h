/* heap_state.h - what the files heap*.c share. */
#ifndef FZ_HEAP_STATE_H
#define FZ_HEAP_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "os/process.h"
#include "shared/heap.h"

/*
 *   region: head | owner words | block 0 | block 1 | ...
 *
 * Each block has an owner word:
 *
 *   upper 32 bits (owner)     lower 32 bits            the block is
 *   COLD  0                   -                        free, without memory
 *   WARM  0x7fffffff          -                        free, with memory
 *   SMALL 0x7ffffffe          member that created it   full of small objects
 *   generation 19, place 12   number of blocks         owned by a member
 *   bit 31, name              number of blocks         owned by an object
 *
 * The word of the first block has the number of blocks; the words of the next
 * ones have 0 there. Blocks are freed one by one, the last one first, because
 * the process may be killed in between. The name of an object is its offset in
 * units of SMALL_SIZE.
 */
#define BLOCK FZ_HEAP_BLOCK
#define SMALL_SIZE FZ_HEAP_SMALL
#define OBJECT_BIT UINT32_C(0x80000000)
#define COLD UINT32_C(0)
#define WARM UINT32_C(0x7fffffff)
#define SMALL UINT32_C(0x7ffffffe)
/* because of this limit, the number of a member is less than SMALL and WARM */
#define GENERATIONS UINT32_C(0x7fffe)

enum { PLACE_BITS = 12, NSMALL = (64 << 10) / 256 };

/*
 * A member. The thread that has made the process a member holds the mutex
 * `life`. If another process can lock `life`, it checks whether the whole
 * process is dead, or only that thread.
 *
 * A locked robust mutex contains addresses of the process that holds it. This
 * is safe: only the holder, and the kernel at the holder's death, use these
 * addresses, and the next holder overwrites them.
 */
struct member {
	pthread_mutex_t life;
	pid_t pid;
	/* time of CLOCK_BOOTTIME at which the member has joined */
	int64_t joined_ns;
	struct fz_heap_wait wait;
	uint32_t generation;
	/* time at which the member was first found to be dead; 0: not yet */
	int64_t dead_ns;
	_Atomic bool shares; /* the member may have handles of objects */
};

/* A seat belongs to one place for ever, and so to one member after another. */
struct seat {
	struct fz_heap_wait wait;
	/* 1 + place of the seat; 0: its process died before it set this */
	uint32_t place;
	uint32_t next; /* number of the member's next free seat; 0: none */
};

struct head {
	uint32_t nblocks;
	uint32_t id; /* the result of fz_heap_id() */
	pthread_mutex_t joining;
	_Atomic uint32_t nplaces;
	_Atomic uint32_t top; /* above all blocks that were ever used */
	/* approximate number of free blocks that have memory */
	_Atomic int32_t nwarm;
	_Atomic uint32_t nused; /* about how many blocks have an owner */
	/*
	 * lower half: all blocks with lower numbers are in use; upper half:
	 * number of frees
	 */
	_Atomic uint64_t lowest;
	_Atomic uint32_t generation; /* generation of the newest object */
	_Atomic uint32_t nseats;
	_Atomic uint32_t nforeign; /* processes that other code has forked */
	_Atomic uint32_t nsharers; /* how many members have shared objects */
	_Atomic bool has_quiet;    /* the result of fz_heap_has_quiet() */
	struct member members[FZ_HEAP_MEMBERS];
	struct seat seats[FZ_HEAP_SEATS];
};

static struct fz_process_heap *const heap = &fz_process.heap;

static inline struct head *
heap_head(void)
{
	return (struct head *)(void *)heap->base;
}

static inline uint64_t
owner_word(uint32_t owner, uint32_t n)
{
	return (uint64_t)owner << 32 | n;
}

static inline uint32_t
owner_of(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

static inline bool
is_free(uint64_t word)
{
	return owner_of(word) == COLD || owner_of(word) == WARM;
}

static inline uint32_t
block_number(const void *at)
{
	return (uint32_t)((size_t)((const unsigned char *)at - heap->blocks) /
			  BLOCK);
}

static inline unsigned char *
block_at(uint32_t i)
{
	return heap->blocks + (size_t)i * BLOCK;
}

static inline struct fz_object *
small_at(unsigned char *block, size_t i)
{
	return (struct fz_object *)(block + i * SMALL_SIZE);
}

static inline struct member *
member_at(uint32_t place)
{
	return &heap_head()->members[place];
}

static inline struct seat *
seat_at(uint32_t number)
{
	return &heap_head()->seats[number - FZ_HEAP_MEMBERS];
}

/* Reserve memory for a part of the heap. 0, or -1 and errno. */
int fz_heap_reserve(const void *at, size_t len);

/*
 * The number under which an instance owns blocks, even if it has not joined and
 * so shares no objects. 0 and `err` on failure.
 */
uint32_t fz_heap_enter(struct fz_membership *own, struct fz_err *err);

/* Initialise a robust mutex in shared memory. 0, or an errno. */
int fz_heap_init_lock(pthread_mutex_t *mutex);

/*
 * Lock a robust mutex, even if its last owner died: the protected data is
 * always consistent. Without `wait`, fails if it is locked. 0, or an errno.
 */
int fz_heap_lock(pthread_mutex_t *mutex, bool wait);

/*
 * Whether the process of a member is alive. The caller holds the member's mutex
 * `life`.
 */
bool fz_heap_is_running(const struct member *m);

/* Let the next search for free blocks begin at block `i` or before. */
void fz_heap_search_from(uint32_t i);

/* Take `size` bytes of free blocks for the member `self`. NULL and `err`. */
void *fz_heap_take_blocks(uint32_t self, size_t size, struct fz_err *err);

/*
 * Free owned blocks. fz_heap_free_blocks() keeps their memory, unless enough
 * free blocks have memory. fz_heap_drop_blocks() returns it to the kernel; some
 * of its blocks may have none.
 */
void fz_heap_free_blocks(uint32_t i, uint32_t n);
void fz_heap_drop_blocks(uint32_t i, uint32_t n);

/*
 * Reclaim the place of a dead member for a new member, and return it locked.
 * NULL if there is none. If all places are in use, and a member has died just
 * now, waits until its place can be reclaimed.
 */
struct member *fz_heap_reclaim_place(uint32_t *place);

/* Free the blocks and objects of members dead for RECLAIM_AFTER_NS. */
void fz_heap_reclaim(void);

/*
 * Free the blocks and objects of a member that has ended, except objects that
 * were sent.
 */
void fz_heap_reclaim_member(uint32_t member);

#endif
