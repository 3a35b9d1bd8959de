/* kill is not in C. */
#define _POSIX_C_SOURCE 200809L
#include "processes.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static FILE *
open_file(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "r");
}

/* Read both times; they are 0 if the kernel does not count them. */
static void
read_times(struct process *p)
{
	FILE *file = open_file(p->pid, "schedstat");
	long long ran = 0, waited = 0;

	if (file == NULL)
		return;
	if (fscanf(file, "%lld %lld", &ran, &waited) == 2) {
		p->ran_ns = ran;
		p->waited_ns = waited;
	}
	fclose(file);
}

static void
add(struct processes *ps, pid_t pid)
{
	struct process p = { .pid = pid };

	if (ps->n == ps->cap) {
		ps->cap = 2 * ps->cap + 16;
		ps->list = realloc(ps->list, ps->cap * sizeof(*ps->list));
		if (ps->list == NULL)
			abort();
	}
	read_times(&p);
	ps->list[ps->n++] = p;
}

static void
add_children(struct processes *ps, pid_t pid, const char *thread)
{
	char name[300];
	FILE *file;
	int child;

	snprintf(
	    name, sizeof(name), "/proc/%d/task/%s/children", (int)pid, thread);
	file = fopen(name, "r");
	if (file == NULL)
		return;
	while (fscanf(file, "%d", &child) == 1)
		add(ps, child);
	fclose(file);
}

static void
add_children_of(struct processes *ps, pid_t pid)
{
	struct dirent *thread;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir != NULL && (thread = readdir(dir)) != NULL)
		if (thread->d_name[0] != '.')
			add_children(ps, pid, thread->d_name);
	if (dir != NULL)
		closedir(dir);
}

static void
add_descendants(struct processes *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		add_children_of(ps, ps->list[i].pid);
}

void
processes_read(struct processes *ps, pid_t root)
{
	ps->n = 0;
	add(ps, root);
	add_descendants(ps);
}

void
processes_read_below(struct processes *ps, pid_t root)
{
	ps->n = 0;
	add_children_of(ps, root);
	add_descendants(ps);
}

/* The process with this pid; all fields are 0 if it is not in the list. */
static struct process
find(const struct processes *ps, pid_t pid)
{
	for (size_t i = 0; i < ps->n; i++)
		if (ps->list[i].pid == pid)
			return ps->list[i];
	return (struct process){ .pid = pid };
}

void
processes_times(const struct processes *before, const struct processes *now,
    int64_t *busy_ns, int64_t *waited_ns)
{
	*busy_ns = *waited_ns = 0;
	for (size_t i = 0; i < now->n; i++) {
		struct process p = now->list[i];
		struct process last = find(before, p.pid);
		int64_t waited = p.waited_ns - last.waited_ns;

		*busy_ns += p.ran_ns - last.ran_ns + waited;
		if (waited > *waited_ns)
			*waited_ns = waited;
	}
}

void
processes_kill(struct processes *ps, pid_t root)
{
	kill(root, SIGSTOP);
	processes_read(ps, root);
	for (size_t i = ps->n; i-- > 0;)
		kill(ps->list[i].pid, SIGKILL);
}

/* Write the text of a file as one line of at most `max` bytes. */
static void
put_file(FILE *out, pid_t pid, const char *name, int max)
{
	FILE *file = open_file(pid, name);
	int c;

	if (file == NULL)
		return;
	while (max-- > 0 && (c = getc(file)) != EOF)
		putc(c == '\0' || c == '\n' ? ' ' : c, out);
	fclose(file);
}

void
processes_describe(const struct process *p, FILE *out)
{
	fprintf(out, "watchdog: %d ", (int)p->pid);
	put_file(out, p->pid, "cmdline", 100);
	fprintf(out, "\n    state ");
	put_file(out, p->pid, "stat", 40);
	fprintf(out, "\n    call ");
	put_file(out, p->pid, "syscall", 100);
	fprintf(out, "\n    stack ");
	put_file(out, p->pid, "stack", 300);
	putc('\n', out);
}

void
processes_put_variable(const struct process *p, const char *variable, FILE *out)
{
	FILE *file = open_file(p->pid, "environ");
	char *text = NULL;
	size_t cap = 0;

	if (file == NULL)
		return;
	while (getdelim(&text, &cap, '\0', file) != -1)
		if (strncmp(text, variable, strlen(variable)) == 0)
			fputs(text + strlen(variable), out);
	free(text);
	fclose(file);
}

void
processes_free(struct processes *ps)
{
	free(ps->list);
}
