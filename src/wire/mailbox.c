/* MAP_ANONYMOUS, madvise and seals are no part of C or POSIX. */
#define _GNU_SOURCE
#include "wire/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "os/process.h"
#include "shared/memfd.h"
#include "wire/wire.h"

/*
 * Number of mailboxes in the first block of a process, and in the largest one.
 */
enum { BLOCK_MAILBOXES = 16, BLOCK_MAILBOXES_MAX = 256 };

struct fz_mailbox_block {
	unsigned char *base;
	size_t stride; /* bytes from one mailbox to the next: whole pages */
	unsigned nmailboxes, ntaken;
	/* number of mailboxes in use, plus 1 until the block is dropped */
	unsigned nrefs;
	/* generation of the process that mapped the block */
	uint32_t generation;
};

static void *
map(size_t size, int flags, struct fz_err *err)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at != MAP_FAILED)
		return at;
	fz_err_sys(err, errno, "mmap");
	return NULL;
}

struct fz_mailbox_own *
fz_mailbox_own_new(struct fz_err *err)
{
	return map(sizeof(struct fz_mailbox_own), MAP_PRIVATE, err);
}

void
fz_mailbox_own_free(struct fz_mailbox_own *own)
{
	munmap(own, sizeof(*own));
}

static size_t
size_of(const struct fz_mailbox_block *block)
{
	return block->nmailboxes * block->stride;
}

static struct fz_mailbox_block *
block_new(unsigned nmailboxes, struct fz_err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct fz_mailbox_block *block = malloc(sizeof(*block));

	if (block == NULL) {
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	*block = (struct fz_mailbox_block){ .nmailboxes = nmailboxes,
		.nrefs = 1,
		.stride = (sizeof(struct fz_mailbox) + page - 1) / page * page,
		.generation = fz_process.generation };
	block->base = map(size_of(block), MAP_SHARED, err);
	if (block->base == NULL) {
		free(block);
		return NULL;
	}
	/* If this fails, a fork only takes longer. */
	madvise(block->base, size_of(block), MADV_DONTFORK);
	return block;
}

static void
unref(struct fz_mailbox_block *block)
{
	if (--block->nrefs != 0)
		return;
	munmap(block->base, size_of(block));
	free(block);
}

/*
 * Whether this process has made the block: blocks of its parent are not mapped.
 */
static bool
is_own(const struct fz_mailbox_block *block)
{
	return block->generation == fz_process.generation;
}

void
fz_mailbox_block_drop(struct fz_mailbox_block *block)
{
	if (block != NULL && is_own(block))
		unref(block);
}

/* Each new block is larger, because every mapping makes each fork slower. */
static unsigned
next_size(const struct fz_mailbox_block *old)
{
	if (old == NULL || !is_own(old))
		return BLOCK_MAILBOXES;
	return old->nmailboxes < BLOCK_MAILBOXES_MAX ? 2 * old->nmailboxes
						     : BLOCK_MAILBOXES_MAX;
}

/* Replace `*block` by a new block, unless it has an unused mailbox. */
static int
provide(struct fz_mailbox_block **block, struct fz_err *err)
{
	struct fz_mailbox_block *old = *block;

	if (old != NULL && is_own(old) && old->ntaken < old->nmailboxes)
		return 0;
	*block = block_new(next_size(old), err);
	fz_mailbox_block_drop(old);
	return *block != NULL ? 0 : -1;
}

struct fz_mailbox *
fz_mailbox_new(struct fz_mailbox_block **block, struct fz_err *err)
{
	struct fz_mailbox *mailbox;

	if (provide(block, err) != 0)
		return NULL;
	mailbox =
	    (void *)((*block)->base + (*block)->ntaken * (*block)->stride);
	if (madvise(mailbox, sizeof(*mailbox), MADV_DOFORK) != 0) {
		fz_err_sys(err, errno, "cannot share memory with a worker");
		return NULL;
	}
	(*block)->ntaken++;
	(*block)->nrefs++;
	fz_claim_init(&mailbox->claim);
	return mailbox;
}

struct fz_mailbox *
fz_mailbox_new_private(struct fz_err *err)
{
	struct fz_mailbox *mailbox = map(sizeof(*mailbox), MAP_PRIVATE, err);

	if (mailbox != NULL)
		fz_claim_init(&mailbox->claim);
	return mailbox;
}

struct fz_mailbox *
fz_mailbox_map(int fd)
{
	void *at = mmap(NULL, sizeof(struct fz_mailbox), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);

	return at != MAP_FAILED ? at : NULL;
}

struct fz_mailbox *
fz_mailbox_new_file(int *fd, struct fz_err *err)
{
	struct fz_mailbox *mailbox = NULL;

	*fd = fz_memfd_new("fzlua-mailbox", MFD_ALLOW_SEALING, err);
	if (*fd == -1)
		return NULL;
	if (ftruncate(*fd, sizeof(*mailbox)) == 0) {
		/* if the file shrank, the kernel would end this process */
		fcntl(*fd, F_ADD_SEALS,
		    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
		mailbox = fz_mailbox_map(*fd);
	}
	if (mailbox != NULL) {
		fz_claim_init(&mailbox->claim);
		/* no number, for as long as no worker has mapped the file */
		atomic_store(&mailbox->claim.started, 0);
		return mailbox;
	}
	fz_err_sys(err, errno, "cannot share memory with a worker");
	fz_fd_close(fd);
	return NULL;
}

void
fz_mailbox_unmap(struct fz_mailbox *mailbox)
{
	if (mailbox != NULL)
		munmap(mailbox, sizeof(*mailbox));
}

void
fz_mailbox_free(struct fz_mailbox *mailbox, struct fz_mailbox_block *block)
{
	if (mailbox == NULL || !is_own(block))
		return;
	/* free the pages of the mailbox */
	madvise(mailbox, sizeof(*mailbox), MADV_REMOVE);
	unref(block);
}

void
fz_mailbox_keep(struct fz_mailbox *mailbox)
{
	/* If this fails, a fork only takes longer. */
	madvise(mailbox, sizeof(*mailbox), MADV_DONTFORK);
}

struct fz_mailbox_open
fz_mailbox_open(const struct fz_mailbox *mailbox)
{
	return fz_mailbox_open_of(atomic_load(&mailbox->open));
}

bool
fz_mailbox_read(
    const struct fz_mailbox *mailbox, uint64_t *word, uint64_t *seal)
{
	*word = atomic_load(&mailbox->open);
	*seal = atomic_load(&mailbox->seals[*word >> 56 & 1]);
	return atomic_load(&mailbox->open) == *word;
}

/* Whether a worker can have published these values. */
static bool
is_possible(const struct fz_mailbox_open *open)
{
	bool grows = open->nitems != 0;

	return open->start <= FZ_MAILBOX_ROOM &&
	       open->len <= FZ_MAILBOX_ROOM - open->start &&
	       grows == (open->len >= FZ_WIRE_HEADER + 4) &&
	       grows == (open->len != 0);
}

/* Complete the copy of a growing frame, so that it is a whole frame. */
static void
complete(unsigned char *at, const struct fz_mailbox_open *open)
{
	at[1] |= FZ_WIRE_GROWS;
	fz_le64_store(at + 8, open->len - FZ_WIRE_HEADER);
	fz_le32_store(at + FZ_WIRE_HEADER, open->nitems);
}

/* Clear the fields that the worker sets when it completes a frame. */
static void
clear_head(unsigned char *at)
{
	if (at[0] != FZ_WIRE_VALUES)
		at[1] &= (unsigned char)~FZ_WIRE_MEASURED;
	fz_le64_store(at + 8, 0);
	fz_le32_store(at + FZ_WIRE_HEADER, 0);
}

/*
 * Copy to `copy` the replies that `word` covers. False if their seal is wrong.
 */
static bool
copy_sealed(const struct fz_mailbox *mailbox, uint64_t word, uint64_t seal,
    unsigned char *copy)
{
	struct fz_mailbox_open open = fz_mailbox_open_of(word);
	size_t len = open.start + open.len;
	struct fz_mailbox_sum sum = { 0 };

	memcpy(copy, mailbox->out, len);
	fz_mailbox_pad(copy, len);
	if (open.nitems != 0)
		clear_head(copy + open.start);
	if (fz_mailbox_seal(word, fz_mailbox_sum_to(&sum, copy, len)) != seal)
		return false;
	if (open.nitems != 0)
		complete(copy + open.start, &open);
	return true;
}

int
fz_mailbox_peek(const struct fz_mailbox *mailbox, struct fz_buf *frames)
{
	uint32_t epoch = atomic_load(&mailbox->epoch);
	struct fz_mailbox_open open;
	uint64_t word, seal;
	unsigned char *copy;
	size_t len;

	if (!fz_mailbox_read(mailbox, &word, &seal))
		return 0;
	open = fz_mailbox_open_of(word);
	len = open.start + open.len;
	if (!is_possible(&open))
		return -1;
	if (len == 0)
		return 0;
	/* room for the replies and a pad */
	copy = fz_buf_reserve(frames, len + 8);
	if (copy == NULL)
		return 0; /* the replies will come through the pipe */
	if (copy_sealed(mailbox, word, seal, copy)) {
		frames->len += len;
		return 1;
	}
	atomic_thread_fence(memory_order_acquire);
	return atomic_load(&mailbox->epoch) == epoch ? -1 : 0;
}
