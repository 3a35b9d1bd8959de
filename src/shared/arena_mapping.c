/* madvise and fallocate are extensions of Linux. */
#define _GNU_SOURCE
#include "shared/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/err.h"
#include "shared/arena_state.h"

/*
 * A process maps its own slice in one piece, of twice the machine's memory, or
 * less if address space is short. So the address of an extent is that of the
 * mapping plus the position. For reading, the process keeps mappings of other
 * slices: all of its ancestors' slices, and the parts that it has read of
 * others. They cost only address space, and reading a byte again then costs
 * neither a system call nor a fault.
 */
#define OWN_MIN (UINT64_C(1) << 28)
#define MAPPING_SIZE (UINT64_C(1) << 33)

static void *
map_file(const struct fz_arena *arena, void *at, size_t len, int prot,
    int flags, uint64_t offset)
{
	if (!fz_arena_has_file(arena))
		return MAP_FAILED;
	return mmap(
	    at, len, prot, MAP_SHARED | flags, arena->fd, (off_t)offset);
}

/* Map the range of `w`, aligned for huge pages. 0, or -1. */
static int
map_range(const struct fz_arena *arena, struct fz_arena_mapping *w, int prot)
{
	unsigned char *all, *base;
	size_t size = w->size;

	all = mmap(NULL, size + FZ_ARENA_HUGE, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return -1;
	base = all +
	       (FZ_ARENA_HUGE - (uintptr_t)all % FZ_ARENA_HUGE) % FZ_ARENA_HUGE;
	if (map_file(arena, base, size, prot, MAP_NORESERVE | MAP_FIXED,
		w->offset) == MAP_FAILED) {
		munmap(all, size + FZ_ARENA_HUGE);
		return -1;
	}
	if (base > all)
		munmap(all, (size_t)(base - all));
	munmap(base + size, (size_t)(all + FZ_ARENA_HUGE - base));
	/* keep the slice out of core files; a failure is harmless */
	madvise(base, size, MADV_DONTDUMP);
	w->base = base;
	return 0;
}

/*
 * The number of bytes of this process's slice to map. Each half of them has
 * room for all memory of the machine.
 */
static uint64_t
wanted_size(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	uint64_t size = OWN_MIN;

	while (size < FZ_ARENA_SLICE_SIZE && pages > 0 &&
	       size / 2 / fz_arena_page() < (uint64_t)pages)
		size *= 2;
	return size;
}

/* The first page is not used, so that no extent has the offset 0. */
static int
init_extents(struct fz_arena *arena, uint64_t half)
{
	size_t page = fz_arena_page();

	if (fz_extent_init(&arena->small, page, half - page, page) == -1)
		return -1;
	if (fz_extent_init(&arena->big, half, half, FZ_ARENA_HUGE) == 0)
		return 0;
	fz_extent_fini(&arena->small);
	return -1;
}

int
fz_arena_open_own(struct fz_arena *arena)
{
	struct fz_arena_mapping w = { NULL, fz_arena_offset(arena->slice, 0),
		wanted_size() };

	if (arena->own.base != NULL)
		return 0;
	if (arena->slice >= FZ_ARENA_SLICES - 1)
		return -1;
	while (map_range(arena, &w, PROT_READ | PROT_WRITE) == -1) {
		w.size /= 2;
		if (w.size < OWN_MIN)
			return -1;
	}
	if (init_extents(arena, w.size / 2) == -1) {
		munmap(w.base, w.size);
		return -1;
	}
	madvise(w.base + w.size / 2, w.size / 2, MADV_HUGEPAGE);
	arena->own = w;
	return 0;
}

void
fz_arena_leave_own(struct fz_arena *arena)
{
	struct fz_arena_mapping *w = &arena->own;

	if (w->base == NULL)
		return;
	/*
	 * Map the range anew: mprotect() of so many bytes takes seconds under
	 * valgrind.
	 */
	munmap(w->base, w->size);
	if (arena->nseen < FZ_ARENA_MAPPINGS &&
	    map_range(arena, w, PROT_READ) == 0)
		arena->seen[arena->nseen++] = *w;
	w->base = NULL;
}

void
fz_arena_unmap_all(struct fz_arena *arena)
{
	if (arena->own.base != NULL)
		munmap(arena->own.base, arena->own.size);
	for (unsigned i = 0; i < arena->nseen; i++)
		munmap(arena->seen[i].base, arena->seen[i].size);
}

/* The address of the bytes if the mapping contains all of them; else NULL. */
static const unsigned char *
find_in(const struct fz_arena_mapping *w, uint64_t offset, size_t len)
{
	if (w->base == NULL || offset < w->offset ||
	    offset - w->offset >= w->size ||
	    len > w->size - (offset - w->offset))
		return NULL;
	return w->base + (offset - w->offset);
}

static const unsigned char *
find_mapped(const struct fz_arena *arena, uint64_t offset, size_t len)
{
	const unsigned char *at = find_in(&arena->own, offset, len);

	for (unsigned i = 0; at == NULL && i < arena->nseen; i++)
		at = find_in(&arena->seen[i], offset, len);
	return at;
}

/* Add a mapping around the bytes. NULL if that is not possible. */
static const unsigned char *
find_in_new_mapping(struct fz_arena *arena, uint64_t offset, size_t len)
{
	struct fz_arena_mapping w = { NULL, offset & ~(MAPPING_SIZE - 1),
		MAPPING_SIZE };

	if (arena->nseen == FZ_ARENA_MAPPINGS ||
	    len > MAPPING_SIZE - (offset - w.offset) ||
	    map_range(arena, &w, PROT_READ) == -1)
		return NULL;
	arena->seen[arena->nseen++] = w;
	return find_in(&w, offset, len);
}

/* Whether the bytes are inside one slice. Fills `err` if they are not. */
static bool
is_range(uint64_t offset, size_t len, struct fz_err *err)
{
	if (len != 0 && fz_arena_slice(offset) < FZ_ARENA_SLICES - 1 &&
	    len <= FZ_ARENA_SLICE_SIZE - fz_arena_position(offset))
		return true;
	fz_err_set(err, FZ_ERR_ERROR, "outside of shared memory");
	return false;
}

/* Map whole pages, beginning at `offset`. NULL and `err` on failure. */
static void *
map_pages(const struct fz_arena *arena, uint64_t offset, size_t len, int prot,
    int flags, struct fz_err *err)
{
	void *at = map_file(arena, NULL, len, prot, flags, offset);

	if (at != MAP_FAILED)
		return at;
	fz_err_sys(err, errno, "cannot map shared memory");
	return NULL;
}

const void *
fz_arena_map(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err)
{
	size_t before = offset % fz_arena_page();
	const unsigned char *at;

	if (!is_range(offset, len, err))
		return NULL;
	at = find_mapped(arena, offset, len);
	if (at == NULL)
		at = find_in_new_mapping(arena, offset, len);
	if (at != NULL)
		return at;
	at = map_pages(
	    arena, offset - before, before + len, PROT_READ, MAP_POPULATE, err);
	return at != NULL ? at + before : NULL;
}

void *
fz_arena_map_room(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err)
{
	void *at;

	if (offset % fz_arena_page() != 0)
		len = 0; /* no extent begins within a page */
	if (!is_range(offset, len, err))
		return NULL;
	at = map_pages(arena, offset, len, PROT_READ | PROT_WRITE, 0, err);
	/*
	 * Let a read of the kernel map the pages in advance: it maps many pages
	 * in one fault; each write would map only one.
	 */
	if (at != NULL)
		madvise(at, len, MADV_POPULATE_READ);
	return at;
}

static bool
is_inside(const struct fz_arena_mapping *w, const void *at)
{
	return w->base != NULL && (uintptr_t)at >= (uintptr_t)w->base &&
	       (uintptr_t)at - (uintptr_t)w->base < w->size;
}

void
fz_arena_unmap(struct fz_arena *arena, const void *at, size_t len)
{
	size_t before = (uintptr_t)at % fz_arena_page();

	if (is_inside(&arena->own, at))
		return;
	for (unsigned i = 0; i < arena->nseen; i++)
		if (is_inside(&arena->seen[i], at))
			return;
	munmap((void *)((uintptr_t)at - before), before + len);
}

void
fz_arena_drop_slice(struct fz_arena *arena, uint32_t slice)
{
	unsigned i = 0;

	if (slice == arena->slice || slice >= FZ_ARENA_SLICES - 1)
		return;
	if (fz_arena_has_file(arena))
		fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)fz_arena_offset(slice, 0),
		    (off_t)FZ_ARENA_SLICE_SIZE);
	while (i < arena->nseen) {
		struct fz_arena_mapping *w = &arena->seen[i];

		if (fz_arena_slice(w->offset) == slice) {
			munmap(w->base, w->size);
			*w = arena->seen[--arena->nseen];
		} else {
			i++;
		}
	}
}
