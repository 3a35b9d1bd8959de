/* mremap, madvise and MAP_ANONYMOUS are Linux. */
#define _GNU_SOURCE
#include "os/alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/slab.h"

/*
 * A block of `size` bytes is a slab's. A checker of memory must see each block:
 * then all small ones are malloc's.
 */
static bool
is_small(size_t size)
{
#if defined(__SANITIZE_ADDRESS__) || defined(FZ_VALGRIND)
	(void)size;
	return false;
#else
	return size - 1 < FZ_SLAB_MAX; /* 0 is not */
#endif
}

enum { HEAP_BLOCKS = 16 };            /* that are kept at most */
#define HEAP_HUGE ((size_t)2 << 20)   /* what one huge page has */
#define HEAP_KEPT ((size_t)256 << 20) /* and their bytes */

struct kept_block {
	void *at;
	size_t room;
};

static struct kept_block kept[HEAP_BLOCKS]; /* the oldest first */
static size_t nkept, kept_bytes;
static unsigned long turnover;

static size_t
round_up(size_t size, size_t step)
{
	return (size + step - 1) & ~(step - 1);
}

/*
 * Medium blocks are malloc's. Once its heap has grown by this much it goes on
 * in huge pages: a fork has an entry to copy for each page, and a small script
 * none that it would not use.
 */
#define HEAP_MANY ((size_t)8 << 20)

static uintptr_t seen; /* end of that heap when it was looked at last */

/* `block` lies behind it, or there was no look yet. */
static void
look_at_growth(uintptr_t block)
{
	uintptr_t end = (uintptr_t)sbrk(0), from;

	if (seen == 0) {
		seen = end + HEAP_MANY;
		return;
	}
	if (block >= end)
		return; /* of another heap */
	mallopt(M_TOP_PAD, HEAP_MANY);
	mallopt(M_TRIM_THRESHOLD, 2 * HEAP_MANY);
	from = round_up(seen, HEAP_HUGE);
	if (from < end)
		madvise((void *)from, end - from, MADV_HUGEPAGE);
	seen = end;
}

static void *
medium_resize(void *block, size_t size)
{
	void *p = realloc(block, size);

	if ((uintptr_t)p >= seen && p != NULL)
		look_at_growth((uintptr_t)p);
	return p;
}

/*
 * What a block of `size` bytes has: four sizes for each power of two, and whole
 * huge pages where the last one is used by more than half.
 */
static size_t
room_of(size_t size)
{
	size_t room = round_up(size, (size_t)1 << (61 - __builtin_clzll(size)));

	return room % HEAP_HUGE > HEAP_HUGE / 2 ? round_up(room, HEAP_HUGE)
						: room;
}

/* A child has none of what is kept: those pages are not mapped there. */
static void
in_child(void)
{
	nkept = kept_bytes = 0;
}

static void
remove_kept(size_t i)
{
	kept_bytes -= kept[i].room;
	nkept--;
	memmove(&kept[i], &kept[i + 1], (nkept - i) * sizeof(kept[0]));
}

static void
unmap_oldest(void)
{
	munmap(kept[0].at, kept[0].room);
	remove_kept(0);
}

/* One that is kept, the warmest; NULL: there is none of that size. */
static void *
take(size_t room)
{
	for (size_t i = nkept; i-- > 0;) {
		void *at = kept[i].at;

		if (kept[i].room != room)
			continue;
		if (madvise(at, room, MADV_DOFORK) != 0)
			return NULL;
		remove_kept(i);
		turnover++;
		return at;
	}
	return NULL;
}

/*
 * A new one, of which `size` bytes will be written at once: a fault for each
 * page would take longer than what they are written for.
 */
static void *
big_new(size_t size)
{
	size_t room = room_of(size);
	void *at = take(room);

	if (at == NULL)
		at = mmap(NULL, room, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	if (room >= HEAP_HUGE) /* otherwise it is only slower */
		madvise(at, room, MADV_HUGEPAGE);
	madvise(at, size, MADV_POPULATE_WRITE);
	return at;
}

/* Without the handler a child might use what it does not have. */
static bool
may_keep(void)
{
	static int rc = -1;

	if (rc == -1)
		rc = pthread_atfork(NULL, NULL, in_child);
	return rc == 0;
}

static void
big_free(void *at, size_t room)
{
	if (room > HEAP_KEPT || !may_keep() ||
	    madvise(at, room, MADV_DONTFORK) != 0) {
		munmap(at, room);
		return;
	}
	while (nkept == HEAP_BLOCKS || kept_bytes + room > HEAP_KEPT)
		unmap_oldest();
	kept[nkept++] = (struct kept_block){ at, room };
	kept_bytes += room;
	turnover++;
}

static void *
big_resize(void *at, size_t old, size_t room)
{
	void *p = NULL;

	if (old == room)
		return at;
	if (room > old)
		p = take(room);
	if (p != NULL) {
		memcpy(p, at, old);
		big_free(at, old);
		return p;
	}
	p = mremap(at, old, room, MREMAP_MAYMOVE);
	return p != MAP_FAILED ? p : NULL;
}

static void *
new_block(size_t size)
{
	if (is_small(size))
		return fz_slab_alloc(size);
	if (size == 0 || size > PTRDIFF_MAX)
		return NULL;
	return size < FZ_ALLOC_BIG ? medium_resize(NULL, size) : big_new(size);
}

static void
free_block(void *block, size_t size)
{
	if (is_small(size))
		fz_slab_free(block);
	else if (size < FZ_ALLOC_BIG)
		free(block);
	else
		big_free(block, room_of(size));
}

/* A block of another kind, or of another size class. */
static void *
move_block(void *block, size_t old_size, size_t size)
{
	void *p = new_block(size);

	if (p == NULL)
		return NULL;
	memcpy(p, block, old_size < size ? old_size : size);
	free_block(block, old_size);
	return p;
}

static void *
resize(void *block, size_t old_size, size_t size)
{
	if (is_small(old_size) && is_small(size) &&
	    fz_slab_room(old_size) == fz_slab_room(size))
		return block;
	if (is_small(old_size) || is_small(size))
		return move_block(block, old_size, size);
	if (old_size < FZ_ALLOC_BIG && size < FZ_ALLOC_BIG)
		return medium_resize(block, size);
	if (old_size >= FZ_ALLOC_BIG && size >= FZ_ALLOC_BIG)
		return big_resize(block, room_of(old_size), room_of(size));
	return move_block(block, old_size, size);
}

static void *
allocate(void *block, size_t old_size, size_t size)
{
	if (block == NULL)
		return new_block(size);
	return size <= PTRDIFF_MAX ? resize(block, old_size, size) : NULL;
}

void *
fz_alloc_alloc(void *ud, void *block, size_t old_size, size_t size)
{
	void *p;

	(void)ud;
	if (block == NULL && is_small(size)) {
		p = fz_slab_alloc(size); /* old_size is the object's type */
		if (p != NULL)
			return p;
	}
	if (size == 0) {
		if (block != NULL)
			free_block(block, old_size);
		return NULL;
	}
	p = allocate(block, old_size, size);
	if (p != NULL || fz_alloc_kept() == 0)
		return p;
	fz_alloc_trim(); /* under a limit of memory what is kept counts */
	return allocate(block, old_size, size);
}

size_t
fz_alloc_kept(void)
{
	return kept_bytes + fz_slab_idle();
}

unsigned long
fz_alloc_turnover(void)
{
	return turnover;
}

void
fz_alloc_trim(void)
{
	while (nkept != 0)
		unmap_oldest();
	fz_slab_trim();
}
