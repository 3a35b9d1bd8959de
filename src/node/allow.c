#define _POSIX_C_SOURCE 200809L /* getline */
#include "node/allow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"

#define ALLOW_HEX "0123456789abcdef"
#define ALLOW_NAME                   \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
#define ALLOW_SPACE " \t\r\n"

enum { ALLOW_DIGITS = 2 * FZ_ALLOW_DIGEST };

struct fz_allow {
	unsigned char (*digests)[FZ_ALLOW_DIGEST];
	size_t ndigests, digests_cap;
	char **names;
	size_t nnames, names_cap;
};

/*
 * Names that every list allows: modules whose functions only compute, and the
 * functions of the library that a submitter sends beside those of the user.
 */
static const char *const harmless[] = { "coroutine", "math", "string", "table",
	"utf8", "fzlua.core.cpu_count", "fzlua.core.note_item", "fzlua.now",
	"fzlua.unpack", "_G.assert", "_G.error", "_G.getmetatable", "_G.ipairs",
	"_G.next", "_G.pairs", "_G.pcall", "_G.print", "_G.rawequal",
	"_G.rawget", "_G.rawlen", "_G.rawset", "_G.select", "_G.setmetatable",
	"_G.tonumber", "_G.tostring", "_G.type", "_G.xpcall" };

int
fz_allow_add(
    struct fz_allow *allow, const unsigned char digest[FZ_ALLOW_DIGEST])
{
	void *room = fz_vec_room(allow->digests, &allow->digests_cap,
	    allow->ndigests + 1, FZ_ALLOW_DIGEST);

	if (room == NULL)
		return -1;
	allow->digests = room;
	memcpy(allow->digests[allow->ndigests++], digest, FZ_ALLOW_DIGEST);
	return 0;
}

static int
add_name(struct fz_allow *allow, const char *name, size_t len)
{
	char **room = fz_vec_room(
	    allow->names, &allow->names_cap, allow->nnames + 1, sizeof(*room));
	char *copy;

	if (room == NULL)
		return -1;
	allow->names = room;
	copy = malloc(len + 1);
	if (copy == NULL)
		return -1;
	memcpy(copy, name, len);
	copy[len] = '\0';
	allow->names[allow->nnames++] = copy;
	return 0;
}

/* Add the digest that `digits` shows in hexadecimal. 0, or -1: no memory. */
static int
add_digits(struct fz_allow *allow, const char *digits)
{
	unsigned char digest[FZ_ALLOW_DIGEST];

	for (size_t i = 0; i < sizeof(digest); i++) {
		size_t high =
		    (size_t)(strchr(ALLOW_HEX, digits[2 * i]) - ALLOW_HEX);
		size_t low =
		    (size_t)(strchr(ALLOW_HEX, digits[2 * i + 1]) - ALLOW_HEX);

		digest[i] = (unsigned char)(high << 4 | low);
	}
	return fz_allow_add(allow, digest);
}

/*
 * Read a line. 0; -1 if the line contains neither a digest nor a name; -2 if
 * there is no memory.
 */
static int
read_line(struct fz_allow *allow, const char *line)
{
	const char *at = line + strspn(line, ALLOW_SPACE);
	size_t len = strcspn(at, ALLOW_SPACE "#");
	const char *behind = at + len + strspn(at + len, ALLOW_SPACE);
	int rc;

	if (len == 0)
		return 0;
	if (len == ALLOW_DIGITS && strspn(at, ALLOW_HEX) == len)
		rc = add_digits(allow, at);
	else if (strspn(at, ALLOW_NAME) == len && strspn(at, ALLOW_HEX) < len &&
		 (*behind == '\0' || *behind == '#'))
		rc = add_name(allow, at, len);
	else
		return -1;
	return rc == 0 ? 0 : -2;
}

static int
read_lines(
    struct fz_allow *allow, FILE *file, const char *path, struct fz_err *err)
{
	char *line = NULL;
	size_t room = 0;
	int n = 0, rc = 0;

	while (rc == 0 && getline(&line, &room, file) >= 0) {
		n++;
		rc = read_line(allow, line);
	}
	free(line);
	if (rc == -1)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "%.160s:%d: neither a digest nor a name", path, n);
	if (rc == -2)
		return fz_err_nomem(err, "the names in the file of --allow");
	return feof(file) ? 0
			  : fz_err_sys(err, errno, "cannot read %.160s", path);
}

struct fz_allow *
fz_allow_read(const char *path, struct fz_err *err)
{
	struct fz_allow *allow = calloc(1, sizeof(*allow));
	FILE *file = allow != NULL ? fopen(path, "re") : NULL;
	int rc;

	if (allow == NULL) {
		fz_err_nomem(err, "the names in the file of --allow");
		return NULL;
	}
	if (file == NULL) {
		rc = fz_err_sys(err, errno, "cannot open %.160s", path);
	} else {
		rc = read_lines(allow, file, path, err);
		fclose(file);
	}
	if (rc == 0)
		return allow;
	fz_allow_free(allow);
	return NULL;
}

bool
fz_allow_has(
    const struct fz_allow *allow, const unsigned char digest[FZ_ALLOW_DIGEST])
{
	for (size_t i = 0; i < allow->ndigests; i++) {
		if (memcmp(allow->digests[i], digest, FZ_ALLOW_DIGEST) == 0)
			return true;
	}
	return false;
}

static bool
is_entry(const char *entry, const char *module, const char *field)
{
	size_t len = strlen(module);

	if (strncmp(entry, module, len) != 0)
		return false;
	return entry[len] == '\0' || (field != NULL && entry[len] == '.' &&
					 strcmp(entry + len + 1, field) == 0);
}

bool
fz_allow_has_name(
    const struct fz_allow *allow, const char *module, const char *field)
{
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		if (is_entry(harmless[i], module, field))
			return true;
	}
	for (size_t i = 0; i < allow->nnames; i++) {
		if (is_entry(allow->names[i], module, field))
			return true;
	}
	return false;
}

void
fz_allow_free(struct fz_allow *allow)
{
	if (allow == NULL)
		return;
	for (size_t i = 0; i < allow->nnames; i++)
		free(allow->names[i]);
	free(allow->names);
	free(allow->digests);
	free(allow);
}
