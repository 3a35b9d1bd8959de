/* memfd_create, fallocate and madvise are Linux system calls. */
#define _GNU_SOURCE
#include "shared/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "os/memory.h"
#include "shared/extent.h"

/*
 * A process maps its slice at once, twice what the machine has and less where
 * address space is short, and finds an extent by adding. The lower half is for
 * small extents in pages, the upper half for big ones in huge pages where there
 * are any. To read, it keeps windows on other slices: its ancestors' ones, and
 * pieces of those it was asked for. They cost address space alone, and a byte
 * that is read in them again costs neither a system call nor a fault.
 *
 *   offset  63     40 39                            0
 *           | slice  | place: small | big            |
 */
#define SLICE_SIZE (UINT64_C(1) << FZ_ARENA_SLICE_BITS)
#define SLICES_MAX (UINT32_C(1) << 22)
#define NO_SLICE UINT32_MAX
#define WINDOW_MIN (UINT64_C(1) << 28)
#define HUGE ((size_t)2 << 20)
#define VIEW_SIZE (UINT64_C(1) << 33)
#define BIG_FROM ((size_t)1 << 20)
#define ASK_MEMORY_FROM ((size_t)16 << 20)

enum { WINDOWS_MAX = 256 };

struct window {
	unsigned char *base;
	uint64_t offset; /* of the first byte */
	uint64_t size;
};

/* One page that all processes share. */
struct head {
	/* With its complement above: what a stray write leaves is no number. */
	_Atomic uint64_t next_slice;
};

struct fz_arena {
	int fd;
	dev_t dev; /* the file's: a script may close it, and open another */
	ino_t ino;
	struct head *head;
	uint32_t slice;                  /* our own */
	struct window own;               /* base NULL until first needed */
	struct fz_extents small, big;    /* places in it */
	struct window seen[WINDOWS_MAX]; /* others' slices, to read */
	unsigned nseen;
	unsigned long turnover;
};

static size_t
page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t
offset_of(uint32_t slice, uint64_t place)
{
	return (uint64_t)slice << FZ_ARENA_SLICE_BITS | place;
}

static uint64_t
place_of(uint64_t offset)
{
	return offset & (SLICE_SIZE - 1);
}

static uint32_t
slice_of(uint64_t offset)
{
	return (uint32_t)(offset >> FZ_ARENA_SLICE_BITS);
}

static uint64_t
slice_word(uint32_t slice)
{
	return (uint64_t)~slice << 32 | slice;
}

static int
open_arena(struct fz_err *err)
{
	struct rlimit limit;
	int fd;

	/* Growing a file beyond the limit is a signal, not an error. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == -1 ||
	    limit.rlim_cur != RLIM_INFINITY)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no shared memory under a file size limit");
	fd = memfd_create("fzlua", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1)
		return fz_err_sys(err, errno, "cannot make shared memory");
	if (fz_fd_clear_standard(&fd, err) != 0) {
		fz_fd_close(&fd);
		return -1;
	}
	if (ftruncate(fd, (off_t)offset_of(SLICES_MAX - 1, 0)) == -1) {
		fz_err_sys(err, errno, "cannot size shared memory");
		fz_fd_close(&fd);
		return -1;
	}
	/* Cut short, it would kill who reads it; written to, it would grow. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	lseek(fd, 0, SEEK_END);
	return fd;
}

/* Whether the descriptor is still that of the arena. */
static bool
has_arena(const struct fz_arena *shm)
{
	struct stat st;

	if (fstat(shm->fd, &st) == 0 && st.st_ino == shm->ino &&
	    st.st_dev == shm->dev)
		return true;
	errno = EBADF;
	return false;
}

/* mmap() of the arena. */
static void *
map_arena(const struct fz_arena *shm, void *at, size_t len, int prot, int flags,
    uint64_t offset)
{
	if (!has_arena(shm))
		return MAP_FAILED;
	return mmap(at, len, prot, MAP_SHARED | flags, shm->fd, (off_t)offset);
}

struct fz_arena *
fz_arena_new(struct fz_err *err)
{
	struct fz_arena *shm = calloc(1, sizeof(*shm));
	struct stat st;
	void *page;

	if (shm == NULL) {
		fz_err_nomem(err, "shared memory");
		return NULL;
	}
	shm->fd = open_arena(err);
	if (shm->fd == -1)
		goto fail;
	if (fstat(shm->fd, &st) == -1) {
		fz_err_sys(err, errno, "cannot make shared memory");
		goto fail;
	}
	shm->dev = st.st_dev;
	shm->ino = st.st_ino;
	page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		fz_err_sys(err, errno, "cannot map shared memory");
		goto fail;
	}
	shm->head = page;
	atomic_init(&shm->head->next_slice, slice_word(1));
	return shm;
fail:
	fz_fd_close(&shm->fd);
	free(shm);
	return NULL;
}

void
fz_arena_free(struct fz_arena *shm)
{
	unsigned i;

	if (shm == NULL)
		return;
	if (shm->own.base != NULL)
		munmap(shm->own.base, shm->own.size);
	for (i = 0; i < shm->nseen; i++)
		munmap(shm->seen[i].base, shm->seen[i].size);
	fz_extents_fini(&shm->small);
	fz_extents_fini(&shm->big);
	munmap(shm->head, page_size());
	fz_fd_close(&shm->fd);
	free(shm);
}

uint32_t
fz_arena_next_slice(struct fz_arena *shm)
{
	uint64_t word = atomic_load(&shm->head->next_slice);
	uint32_t slice;

	do {
		slice = (uint32_t)word;
		if (word != slice_word(slice) || slice >= SLICES_MAX - 1)
			return NO_SLICE;
	} while (!atomic_compare_exchange_weak(
	    &shm->head->next_slice, &word, slice_word(slice + 1)));
	return slice;
}

/* Map a window where huge pages fit. 0 or -1. */
static int
map_window(const struct fz_arena *shm, struct window *w, int prot)
{
	unsigned char *all, *base;
	size_t size = w->size;

	all = mmap(NULL, size + HUGE, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return -1;
	base = all + (HUGE - (uintptr_t)all % HUGE) % HUGE;
	if (map_arena(shm, base, size, prot, MAP_NORESERVE | MAP_FIXED,
		w->offset) == MAP_FAILED) {
		munmap(all, size + HUGE);
		return -1;
	}
	if (base > all)
		munmap(all, (size_t)(base - all));
	munmap(base + size, (size_t)(all + HUGE - base));
	/* A wish only: a core file must not hold whole slices. */
	madvise(base, size, MADV_DONTDUMP);
	w->base = base;
	return 0;
}

void
fz_arena_enter(struct fz_arena *shm, uint32_t slice)
{
	struct window *w = &shm->own;

	/* Mapped anew: mprotect of that much takes valgrind seconds. */
	if (w->base != NULL) {
		munmap(w->base, w->size);
		if (shm->nseen < WINDOWS_MAX &&
		    map_window(shm, w, PROT_READ) == 0)
			shm->seen[shm->nseen++] = *w;
	}
	fz_extents_fini(&shm->small);
	fz_extents_fini(&shm->big);
	w->base = NULL;
	shm->slice = slice;
}

/* Each half has room for all the memory there is. */
static uint64_t
window_size(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	uint64_t size = WINDOW_MIN;

	while (size < SLICE_SIZE && pages > 0 &&
	       size / 2 / page_size() < (uint64_t)pages)
		size *= 2;
	return size;
}

/* The window and the books of the own slice, made when first needed. */
static int
open_window(struct fz_arena *shm)
{
	struct window w = { NULL, offset_of(shm->slice, 0), window_size() };
	size_t page = page_size();
	uint64_t half;

	if (shm->own.base != NULL)
		return 0;
	if (shm->slice >= SLICES_MAX - 1)
		return -1;
	while (map_window(shm, &w, PROT_READ | PROT_WRITE) == -1) {
		w.size /= 2;
		if (w.size < WINDOW_MIN)
			return -1;
	}
	half = w.size / 2;
	/* The first page stays free: no extent has the offset 0. */
	if (fz_extents_init(&shm->small, page, half - page, page) == -1)
		goto fail;
	if (fz_extents_init(&shm->big, half, half, HUGE) == -1)
		goto fail;
	madvise(w.base + half, half, MADV_HUGEPAGE);
	shm->own = w;
	return 0;
fail:
	fz_extents_fini(&shm->small);
	munmap(w.base, w.size);
	return -1;
}

static bool
is_big(const struct fz_arena *shm, uint64_t place)
{
	return place >= shm->own.size / 2;
}

static struct fz_extents *
book_of(struct fz_arena *shm, uint64_t place)
{
	return is_big(shm, place) ? &shm->big : &shm->small;
}

/* Return the memory of a part of the own slice to the kernel. */
static void
punch(const struct fz_arena *shm, uint64_t offset, uint64_t len)
{
	madvise(shm->own.base + place_of(offset), len, MADV_REMOVE);
}

/* Have the kernel put memory behind it now. 0, or -1 with errno. */
static int
reserve(const struct fz_arena *shm, uint64_t place, size_t len)
{
	off_t offset = (off_t)offset_of(shm->slice, place);
	int rc;

	/* The kernel would rather end a process than refuse what it has not. */
	if (len >= ASK_MEMORY_FROM && fz_memory_available() <= len) {
		errno = ENOMEM;
		return -1;
	}
	do
		rc = madvise(shm->own.base + place, len, MADV_POPULATE_WRITE);
	while (rc == -1 && errno == EINTR);
	if (rc == 0 || errno != EINVAL)
		return rc;
	do /* before Linux 5.14 */
		rc = has_arena(shm) ? fallocate(shm->fd, 0, offset, (off_t)len)
				    : -1;
	while (rc == -1 && errno == EINTR);
	return rc;
}

/* Like fz_arena_alloc(), with errno. */
static void *
alloc(struct fz_arena *shm, size_t len, uint64_t *offset)
{
	struct fz_extents *book = len < BIG_FROM ? &shm->small : &shm->big;
	uint64_t place, got;
	bool cold;

	if (open_window(shm) == -1 ||
	    fz_extents_take(book, len, &place, &cold) == -1) {
		errno = ENOMEM;
		return NULL;
	}
	shm->turnover++;
	got = fz_extents_find(book, place)->len;
	*offset = offset_of(shm->slice, place);
	if (cold && reserve(shm, place, got) == -1) {
		int keep = errno;

		fz_extents_give(book, place, FZ_EXTENT_COLD);
		punch(shm, *offset, got);
		errno = keep;
		return NULL;
	}
	return shm->own.base + place;
}

void *
fz_arena_alloc(
    struct fz_arena *shm, size_t len, uint64_t *offset, struct fz_err *err)
{
	void *at = alloc(shm, len, offset);

	if (at == NULL)
		fz_err_sys(err, errno, "no %zu bytes of shared memory", len);
	return at;
}

/* Have at most `most` warm bytes; those of `book` go. */
static void
cool_down(struct fz_arena *shm, struct fz_extents *book, uint64_t most)
{
	uint64_t warm, place, len;

	while ((warm = shm->small.warm + shm->big.warm) > most) {
		len = fz_extents_cool(book, warm - most, &place);
		if (len == 0)
			return;
		punch(shm, offset_of(shm->slice, place), len);
	}
}

static bool
is_own(const struct fz_arena *shm, uint64_t offset)
{
	return shm->own.base != NULL && slice_of(offset) == shm->slice &&
	       place_of(offset) < shm->own.size;
}

void
fz_arena_give_back(struct fz_arena *shm, uint64_t offset)
{
	uint64_t place = place_of(offset);

	if (!is_own(shm, offset))
		return;
	shm->turnover++;
	fz_extents_give(book_of(shm, place), place, FZ_EXTENT_WARM);
	cool_down(shm, &shm->big, FZ_ARENA_WARM);
	cool_down(shm, &shm->small, FZ_ARENA_WARM);
}

/* Make an extent longer where it is. Returns its new length, 0 if not. */
static size_t
extend(struct fz_arena *shm, uint64_t offset, size_t len)
{
	uint64_t place = place_of(offset), was, now;
	struct fz_extents *book = book_of(shm, place);
	bool cold;

	if (is_big(shm, place) != (len >= BIG_FROM))
		return 0;
	was = fz_extents_find(book, place)->len;
	if (fz_extents_extend(book, place, len, &cold) == -1)
		return 0;
	now = fz_extents_find(book, place)->len;
	if (!cold || reserve(shm, place + was, now - was) == 0)
		return now;
	if (fz_extents_shrink(book, place, was, FZ_EXTENT_COLD) == -1)
		return 0;
	punch(shm, offset + was, now - was);
	return 0;
}

/* Where the window shows all those bytes, or NULL. */
static const unsigned char *
look(const struct window *w, uint64_t offset, size_t len)
{
	if (w->base == NULL || offset < w->offset ||
	    offset - w->offset >= w->size ||
	    len > w->size - (offset - w->offset))
		return NULL;
	return w->base + (offset - w->offset);
}

static const unsigned char *
find_in_windows(const struct fz_arena *shm, uint64_t offset, size_t len)
{
	const unsigned char *at = look(&shm->own, offset, len);
	unsigned i;

	for (i = 0; at == NULL && i < shm->nseen; i++)
		at = look(&shm->seen[i], offset, len);
	return at;
}

/* A new window around the bytes, which stays. NULL where it cannot be had. */
static const unsigned char *
find_in_new_window(struct fz_arena *shm, uint64_t offset, size_t len)
{
	struct window w = { NULL, offset & ~(VIEW_SIZE - 1), VIEW_SIZE };

	if (shm->nseen == WINDOWS_MAX ||
	    len > VIEW_SIZE - (offset - w.offset) ||
	    map_window(shm, &w, PROT_READ) == -1)
		return NULL;
	shm->seen[shm->nseen++] = w;
	return look(&w, offset, len);
}

const void *
fz_arena_map(
    struct fz_arena *shm, uint64_t offset, size_t len, struct fz_err *err)
{
	size_t page = page_size(), before = offset % page;
	const unsigned char *at;
	void *view;

	if (len == 0 || slice_of(offset) >= SLICES_MAX - 1 ||
	    len > SLICE_SIZE - place_of(offset)) {
		fz_err_set(err, FZ_ERR_ERROR, "not inside shared memory");
		return NULL;
	}
	at = find_in_windows(shm, offset, len);
	if (at == NULL)
		at = find_in_new_window(shm, offset, len);
	if (at != NULL)
		return at;
	view = map_arena(
	    shm, NULL, before + len, PROT_READ, MAP_POPULATE, offset - before);
	if (view == MAP_FAILED) {
		fz_err_sys(err, errno, "cannot map shared memory");
		return NULL;
	}
	return (const unsigned char *)view + before;
}

void *
fz_arena_map_room(
    struct fz_arena *shm, uint64_t offset, size_t len, struct fz_err *err)
{
	void *at;

	if (len == 0 || offset % page_size() != 0 ||
	    slice_of(offset) >= SLICES_MAX - 1 ||
	    len > SLICE_SIZE - place_of(offset)) {
		fz_err_set(err, FZ_ERR_ERROR, "not inside shared memory");
		return NULL;
	}
	at = map_arena(shm, NULL, len, PROT_READ | PROT_WRITE, 0, offset);
	if (at == MAP_FAILED) {
		fz_err_sys(err, errno, "cannot map shared memory");
		return NULL;
	}
	/* Read first, pages are mapped by the dozen; written, one by one. */
	madvise(at, len, MADV_POPULATE_READ);
	return at;
}

static bool
is_inside(const struct window *w, const void *at)
{
	return w->base != NULL && (uintptr_t)at >= (uintptr_t)w->base &&
	       (uintptr_t)at - (uintptr_t)w->base < w->size;
}

void
fz_arena_unmap(struct fz_arena *shm, const void *at, size_t len)
{
	size_t before = (uintptr_t)at % page_size();
	unsigned i;

	if (is_inside(&shm->own, at))
		return;
	for (i = 0; i < shm->nseen; i++)
		if (is_inside(&shm->seen[i], at))
			return;
	munmap((void *)((uintptr_t)at - before), before + len);
}

void
fz_arena_drop_slice(struct fz_arena *shm, uint32_t slice)
{
	unsigned i = 0;

	if (slice == shm->slice || slice >= SLICES_MAX - 1)
		return;
	if (has_arena(shm))
		fallocate(shm->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)offset_of(slice, 0), (off_t)SLICE_SIZE);
	while (i < shm->nseen) {
		struct window *w = &shm->seen[i];

		if (slice_of(w->offset) == slice) {
			munmap(w->base, w->size);
			*w = shm->seen[--shm->nseen];
		} else {
			i++;
		}
	}
}

void
fz_arena_trim(struct fz_arena *shm)
{
	cool_down(shm, &shm->big, 0);
	cool_down(shm, &shm->small, 0);
}

size_t
fz_arena_warm(const struct fz_arena *shm)
{
	return shm->small.warm + shm->big.warm;
}

unsigned long
fz_arena_turnover(const struct fz_arena *shm)
{
	return shm->turnover;
}

size_t
fz_arena_held(const struct fz_arena *shm)
{
	return shm->small.used + shm->small.warm + shm->big.used +
	       shm->big.warm;
}

static int
move_to_heap(struct fz_arena_buf *sb, size_t need)
{
	unsigned char *data = malloc(need);

	if (data == NULL)
		return -1;
	memcpy(data, sb->buf.data, sb->buf.len);
	fz_arena_give_back(sb->shm, sb->offset);
	sb->buf.data = data;
	sb->buf.cap = need;
	sb->in_shm = false;
	return 0;
}

static int
resize_heap(struct fz_arena_buf *sb, size_t need)
{
	size_t cap = sb->buf.cap < 128 ? 256 : 2 * sb->buf.cap;
	unsigned char *data;

	if (sb->in_shm)
		return move_to_heap(sb, need);
	if (cap < need)
		cap = need;
	data = realloc(sb->buf.data, cap);
	if (data == NULL)
		return -1;
	sb->buf.data = data;
	sb->buf.cap = cap;
	return 0;
}

/*
 * Longer in place costs no copy, so steps can be small: memory that is not
 * needed in the end would be touched for nothing.
 */
static int
resize_shm(struct fz_arena_buf *sb, size_t need)
{
	size_t longer = 0, cap = need + need / 2;
	unsigned char *data;
	uint64_t offset;

	if (sb->in_shm)
		longer = extend(sb->shm, sb->offset, need + need / 8);
	if (longer != 0) {
		sb->buf.cap = longer;
		return 0;
	}
	data = alloc(sb->shm, cap, &offset);
	if (data == NULL)
		return -1;
	if (sb->buf.len != 0)
		memcpy(data, sb->buf.data, sb->buf.len);
	sb->buf.store->release(&sb->buf);
	sb->buf.data = data;
	sb->buf.cap = cap;
	sb->offset = offset;
	sb->in_shm = true;
	return 0;
}

static int
shm_buf_resize(struct fz_buf *buf, size_t need)
{
	struct fz_arena_buf *sb = (struct fz_arena_buf *)buf;

	if (sb->shm != NULL && need > sb->threshold &&
	    resize_shm(sb, need) == 0)
		return 0;
	return resize_heap(sb, need);
}

static void
shm_buf_release(struct fz_buf *buf)
{
	struct fz_arena_buf *sb = (struct fz_arena_buf *)buf;

	if (sb->in_shm)
		fz_arena_give_back(sb->shm, sb->offset);
	else
		free(buf->data);
	sb->in_shm = false;
}

static const struct fz_buf_store shm_buf_store = { shm_buf_resize,
	shm_buf_release };

void
fz_arena_buf_init(
    struct fz_arena_buf *sb, struct fz_arena *shm, size_t threshold)
{
	fz_buf_init(&sb->buf);
	sb->buf.store = &shm_buf_store;
	sb->shm = shm;
	sb->threshold = threshold;
	sb->offset = 0;
	sb->in_shm = false;
}

uint64_t
fz_arena_buf_take(struct fz_arena_buf *sb)
{
	uint64_t offset = sb->offset, place = place_of(offset);

	fz_extents_shrink(
	    book_of(sb->shm, place), place, sb->buf.len, FZ_EXTENT_WARM);
	cool_down(sb->shm, &sb->shm->big, FZ_ARENA_WARM);
	sb->buf.data = NULL;
	sb->buf.len = sb->buf.cap = 0;
	sb->in_shm = false;
	return offset;
}
