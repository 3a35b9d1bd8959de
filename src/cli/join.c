#define _GNU_SOURCE /* gethostname, realpath */
#include "cli/join.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "child/spawned_main.h"
#include "node/allow.h"
#include "node/nats_nodes.h"
#include "node/nats_url.h"
#include "os/cpus.h"
#include "os/fd.h"

enum { JOIN_SETUP_MAX = 8192, JOIN_SLOTS_MAX = 4096, JOIN_MISUSE = 2 };

#define JOIN_NAME                    \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* The values of the options, or of the environment if an option is missing. */
struct join {
	const char *url, *creds, *slots, *name, *allow;
	char host[65], cpus[16], allow_path[PATH_MAX];
};

/* The options. Each has a value. */
static const struct option {
	const char *name;
	size_t field; /* offset of the field for the value in struct join */
} options[] = {
	{ "--engine", offsetof(struct join, url) },
	{ "--engine-creds", offsetof(struct join, creds) },
	{ "--name", offsetof(struct join, name) },
	{ "--allow", offsetof(struct join, allow) },
	{ "-j", offsetof(struct join, slots) },
	{ NULL, 0 },
};

/*
 * The option in `word`, or NULL. Sets `*rest` to the part of `word` after the
 * name of the option. If this part is empty, the next word is the value.
 */
static const struct option *
find_option(const char *word, const char **rest)
{
	for (const struct option *o = options; o->name != NULL; o++) {
		size_t len = strlen(o->name);
		bool is_long = o->name[1] == '-';

		*rest = word + len;
		if (strncmp(word, o->name, len) == 0 &&
		    (**rest == '\0' || !is_long || **rest == '='))
			return o;
	}
	return NULL;
}

/* The value of an environment variable, or NULL if it is missing or empty. */
static const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? value : NULL;
}

bool
fz_join_is(int argc, char **argv)
{
	bool worker = false, help = false;

	for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *rest;
		const struct option *o = find_option(argv[i], &rest);

		worker = worker || strcmp(argv[i], "--worker") == 0;
		help = help || strcmp(argv[i], "--help") == 0 ||
		       strcmp(argv[i], "-h") == 0;
		if (o != NULL && *rest == '\0')
			i++;
	}
	return worker && !help;
}

static int
misuse(const char *text, const char *word)
{
	fprintf(stderr, "fzlua: --worker: %s%s\n", text, word);
	return JOIN_MISUSE;
}

static int
read_options(struct join *join, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value;
		const struct option *o = find_option(word, &value);

		if (strcmp(word, "--worker") == 0)
			continue;
		if (o == NULL)
			return misuse("unrecognized option ", word);
		if (*value == '\0')
			value = argv[++i];
		else if (*value == '=')
			value++;
		if (value == NULL)
			return misuse("a value is missing after ", word);
		memcpy((char *)join + o->field, &value, sizeof(value));
	}
	return 0;
}

/* Check that the file is readable now. Each worker reads the file again. */
static int
check_allow(struct join *join)
{
	struct fz_err err;
	struct fz_allow *allow;

	if (join->allow == NULL)
		return 0;
	allow = fz_allow_read(join->allow, &err);
	if (allow == NULL)
		return misuse("--allow: ", err.text);
	fz_allow_free(allow);
	if (realpath(join->allow, join->allow_path) == NULL)
		return misuse("--allow: ", strerror(errno));
	return 0;
}

static int
check_options(struct join *join)
{
	struct fz_nats_url url;
	struct fz_err err;
	char *end;
	unsigned long slots;

	if (join->url == NULL)
		return misuse("--engine nats://HOST is missing, and ",
		    "FZLUA_ENGINE is not set");
	if (!fz_nats_url_is(join->url))
		return misuse("--engine: a node joins nats:// or tls://; ",
		    "with ssh://, the script starts the workers");
	if (fz_nats_url_read(&url, join->url, &err) != 0)
		return misuse("--engine: ", err.text);
	snprintf(join->cpus, sizeof(join->cpus), "%d", fz_cpus_count());
	if (join->slots == NULL)
		join->slots = join->cpus;
	slots = strtoul(join->slots, &end, 10);
	if (*end != '\0' || slots == 0 || slots > JOIN_SLOTS_MAX)
		return misuse(
		    "-j must be a number of slots from 1 to 4096, not ",
		    join->slots);
	if (join->name == NULL) {
		gethostname(join->host, sizeof(join->host) - 1);
		join->name = join->host;
	}
	if (join->name[strspn(join->name, JOIN_NAME)] != '\0' ||
	    join->name[0] == '\0' || strlen(join->name) > 64)
		return misuse("not a name for a node (1 to 64 letters, digits, "
			      "'.', '_', '-'): ",
		    join->name);
	return check_allow(join);
}

/* Append a string with its NUL byte. Returns 0, or -1 and sets errno. */
static int
put(char setup[JOIN_SETUP_MAX], size_t *len, const char *text)
{
	size_t n = strlen(text) + 1;

	if (n > JOIN_SETUP_MAX - *len) {
		errno = E2BIG;
		return -1;
	}
	memcpy(setup + *len, text, n);
	*len += n;
	return 0;
}

/*
 * Write the setup of the gateway to a pipe, because other users can see command
 * lines. Returns the read end, or -1 and sets errno.
 */
static int
setup_pipe(const struct join *join, const char *command)
{
	const char *const strings[] = { join->url,
		join->creds != NULL ? join->creds : "", FZ_SPAWNED_IDENTITY,
		command, join->slots, join->name, join->allow_path };
	char setup[JOIN_SETUP_MAX];
	size_t len = 0;
	int ends[2];

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
		if (put(setup, &len, strings[i]) != 0)
			return -1;
	}
	if (fz_fd_pipe(ends, NULL) != 0 ||
	    fz_fd_write_all(ends[1], setup, len) != 0)
		return -1;
	fz_fd_close(&ends[1]);
	/* the gateway inherits the copy, which has no close-on-exec flag */
	return dup(ends[0]);
}

static void
find_command(char command[PATH_MAX])
{
	const char *named = getenv("FZLUA_WORKER_COMMAND");
	ssize_t len = -1;

	if (named == NULL || *named == '\0')
		len = readlink("/proc/self/exe", command, PATH_MAX - 1);
	if (len >= 0)
		command[len] = '\0';
	else
		snprintf(
		    command, PATH_MAX, "%s", named != NULL ? named : "fzlua");
}

int
fz_join_main(int argc, char **argv)
{
	struct join join = { .url = environment("FZLUA_ENGINE"),
		.creds = environment("FZLUA_ENGINE_CREDS") };
	char program[FZ_NATS_PROGRAM_MAX], command[PATH_MAX], text[16];
	struct fz_err err;
	int fd, rc = read_options(&join, argc, argv);

	if (rc == 0)
		rc = check_options(&join);
	if (rc != 0)
		return rc;
	find_command(command);
	fd = setup_pipe(&join, command);
	if (fd == -1)
		return misuse("cannot start the gateway: ", strerror(errno));
	fz_nats_program(program);
	snprintf(text, sizeof(text), "%d", fd);
	fz_fd_restore_limit();
	execlp(program, "fzlua-nats", "--serve", text, (char *)NULL);
	if (errno == ENOENT)
		fz_nats_missing(&err);
	else
		fz_err_sys(&err, errno, "cannot start %.128s", program);
	fprintf(stderr, "fzlua: %s\n", err.text);
	return EXIT_FAILURE;
}
