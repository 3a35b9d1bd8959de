/* MFD_ALLOW_SEALING and madvise are extensions of Linux. */
#define _GNU_SOURCE
#include "shared/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "shared/arena_state.h"
#include "shared/memfd.h"

#define NO_SLICE UINT32_MAX
#define BIG_FROM ((size_t)1 << 20)

struct fz_arena_head {
	/*
	 * The next slice number. The upper half of the word is the complement
	 * of the lower half, so that a stray write to the word is noticed.
	 */
	_Atomic uint64_t next_slice;
};

static uint64_t
slice_word(uint32_t slice)
{
	return (uint64_t)~slice << 32 | slice;
}

bool
fz_arena_has_file(const struct fz_arena *arena)
{
	struct stat st;

	if (fstat(arena->fd, &st) == 0 && st.st_ino == arena->ino &&
	    st.st_dev == arena->dev)
		return true;
	errno = EBADF;
	return false;
}

static int
open_file(struct fz_arena *arena, struct fz_err *err)
{
	struct stat st;

	arena->fd = fz_memfd_new("fzlua", MFD_ALLOW_SEALING, err);
	if (arena->fd == -1)
		return -1;
	if (ftruncate(arena->fd,
		(off_t)fz_arena_offset(FZ_ARENA_SLICES - 1, 0)) == -1)
		return fz_err_sys(
		    err, errno, "cannot set the size of shared memory");
	/*
	 * Seal the size of the file. If the file shrank, a process that reads
	 * beyond the new end would die; and a write must not extend it.
	 */
	fcntl(
	    arena->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	lseek(arena->fd, 0, SEEK_END);
	if (fstat(arena->fd, &st) == -1)
		return fz_err_sys(err, errno, "cannot make shared memory");
	arena->dev = st.st_dev;
	arena->ino = st.st_ino;
	return 0;
}

static int
map_head(struct fz_arena *arena, struct fz_err *err)
{
	void *page = mmap(NULL, fz_arena_page(), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return fz_err_sys(err, errno, "cannot map shared memory");
	arena->head = page;
	atomic_init(&arena->head->next_slice, slice_word(1));
	return 0;
}

struct fz_arena *
fz_arena_new(struct fz_err *err)
{
	struct fz_arena *arena = calloc(1, sizeof(*arena));

	if (arena == NULL) {
		fz_err_nomem(err, "shared memory");
		return NULL;
	}
	if (open_file(arena, err) == 0 && map_head(arena, err) == 0)
		return arena;
	fz_fd_close(&arena->fd);
	free(arena);
	return NULL;
}

static void
forget_extents(struct fz_arena *arena)
{
	fz_extent_fini(&arena->small);
	fz_extent_fini(&arena->big);
}

void
fz_arena_free(struct fz_arena *arena)
{
	if (arena == NULL)
		return;
	fz_arena_unmap_all(arena);
	forget_extents(arena);
	munmap(arena->head, fz_arena_page());
	fz_fd_close(&arena->fd);
	free(arena);
}

uint32_t
fz_arena_next_slice(struct fz_arena *arena)
{
	uint64_t word = atomic_load(&arena->head->next_slice);
	uint32_t slice;

	do {
		slice = (uint32_t)word;
		if (word != slice_word(slice) || slice >= FZ_ARENA_SLICES - 1)
			return NO_SLICE;
	} while (!atomic_compare_exchange_weak(
	    &arena->head->next_slice, &word, slice_word(slice + 1)));
	return slice;
}

void
fz_arena_enter(struct fz_arena *arena, uint32_t slice)
{
	fz_arena_leave_own(arena);
	forget_extents(arena);
	arena->slice = slice;
}

static bool
is_big(const struct fz_arena *arena, uint64_t position)
{
	return position >= arena->own.size / 2;
}

struct fz_extents *
fz_arena_extents(struct fz_arena *arena, uint64_t position)
{
	return is_big(arena, position) ? &arena->big : &arena->small;
}

/* Return the memory of a part of this process's slice to the kernel. */
static void
punch(const struct fz_arena *arena, uint64_t position, uint64_t len)
{
	madvise(arena->own.base + position, len, MADV_REMOVE);
}

/* Reserve memory for a part of this process's slice. 0, or -1 and errno. */
static int
reserve(const struct fz_arena *arena, uint64_t position, size_t len)
{
	return fz_memfd_reserve(arena->own.base + position, len,
	    fz_arena_has_file(arena) ? arena->fd : -1,
	    (off_t)fz_arena_offset(arena->slice, position));
}

void *
fz_arena_try_alloc(struct fz_arena *arena, size_t len, uint64_t *offset)
{
	struct fz_extents *extents =
	    len < BIG_FROM ? &arena->small : &arena->big;
	uint64_t position, got;
	bool cold;

	if (fz_arena_open_own(arena) == -1 ||
	    fz_extent_take(extents, len, &position, &cold) == -1) {
		errno = ENOMEM;
		return NULL;
	}
	arena->turnover++;
	got = fz_extent_find(extents, position)->len;
	*offset = fz_arena_offset(arena->slice, position);
	if (cold && reserve(arena, position, got) == -1) {
		int keep = errno;

		fz_extent_give(extents, position, FZ_EXTENT_COLD);
		punch(arena, position, got);
		errno = keep;
		return NULL;
	}
	return arena->own.base + position;
}

void *
fz_arena_alloc(
    struct fz_arena *arena, size_t len, uint64_t *offset, struct fz_err *err)
{
	void *at = fz_arena_try_alloc(arena, len, offset);

	if (at == NULL)
		fz_err_sys(err, errno,
		    "cannot allocate %zu bytes of shared memory", len);
	return at;
}

/* Cool `extents` until at most `most` bytes of both halves are warm. */
static void
cool_half(struct fz_arena *arena, struct fz_extents *extents, uint64_t most)
{
	uint64_t warm, position, len;

	while ((warm = fz_arena_warm(arena)) > most) {
		len = fz_extent_cool(extents, warm - most, &position);
		if (len == 0)
			return;
		punch(arena, position, len);
	}
}

void
fz_arena_cool(struct fz_arena *arena, uint64_t most)
{
	cool_half(arena, &arena->big, most);
	cool_half(arena, &arena->small, most);
}

static bool
is_own(const struct fz_arena *arena, uint64_t offset)
{
	return arena->own.base != NULL &&
	       fz_arena_slice(offset) == arena->slice &&
	       fz_arena_position(offset) < arena->own.size;
}

void
fz_arena_give_back(struct fz_arena *arena, uint64_t offset)
{
	uint64_t position = fz_arena_position(offset);

	if (!is_own(arena, offset))
		return;
	arena->turnover++;
	fz_extent_give(
	    fz_arena_extents(arena, position), position, FZ_EXTENT_WARM);
	fz_arena_cool(arena, FZ_ARENA_WARM);
}

size_t
fz_arena_extend(struct fz_arena *arena, uint64_t offset, size_t len)
{
	uint64_t position = fz_arena_position(offset), was, now;
	struct fz_extents *extents = fz_arena_extents(arena, position);
	bool cold;

	if (is_big(arena, position) != (len >= BIG_FROM))
		return 0;
	was = fz_extent_find(extents, position)->len;
	if (fz_extent_extend(extents, position, len, &cold) == -1)
		return 0;
	now = fz_extent_find(extents, position)->len;
	if (!cold || reserve(arena, position + was, now - was) == 0)
		return now;
	if (fz_extent_shrink(extents, position, was, FZ_EXTENT_COLD) == -1)
		return 0;
	punch(arena, position + was, now - was);
	return 0;
}

void
fz_arena_trim(struct fz_arena *arena)
{
	fz_arena_cool(arena, 0);
}

size_t
fz_arena_warm(const struct fz_arena *arena)
{
	return arena->small.warm + arena->big.warm;
}

unsigned long
fz_arena_turnover(const struct fz_arena *arena)
{
	return arena->turnover;
}

size_t
fz_arena_held(const struct fz_arena *arena)
{
	return arena->small.used + arena->big.used + fz_arena_warm(arena);
}
