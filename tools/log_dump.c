/* rivulet log dump: what is in a partition's files, and whether they agree with each other. */
#include "tools/log_dump.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DUMP_DEPTH = 2 }; /* a data directory, its partitions: directories below are not entered */

void dump_json(struct dump *d, json_t *object)
{
    if (!json_line(stdout, object)) {
        d->failed = true;
    }
}

void dump_problem(struct dump *d, const char *path, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->problems++;
    if (d->t->json) {
        dump_json(d, json_pack("{s:s,s:o,s:o}", "kind", "problem", "file", json_text(path), "text",
                               json_text(text)));
    } else {
        printf("PROBLEM %s: %s\n", path, text);
    }
}

void dump_bytes(struct bytes b)
{
    if (!b.ptr) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = b.ptr[i];
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c == '\n') {
            fputs("\\n", stdout);
        } else if (c >= 0x20 && c < 0x7f) {
            putchar(c);
        } else {
            printf("\\x%02x", c);
        }
    }
    putchar('"');
}

/* ---- which files */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static char *joined(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* An index stands for its segment: neither can be judged without the other. */
static void dump_index_file(struct dump *d, const char *path)
{
    char *log = NULL;
    const char *dot = strrchr(path, '.');
    if (asprintf(&log, "%.*s.log", (int)(dot - path), path) < 0) {
        dump_problem(d, path, "out of memory");
        return;
    }
    struct stat st;
    if (stat(log, &st) != 0) {
        dump_problem(d, path, "no segment beside it: %s", strerror(errno));
    } else {
        dump_segment(d, log);
    }
    free(log);
}

struct dumper {
    const char *name; /* end of the file's name */
    bool is_of_dirs;  /* also when a whole directory is dumped */
    void (*dump)(struct dump *d, const char *path);
};

static const struct dumper dumpers[] = {
    {".log",                    true,  dump_segment   },
    {".index",                  false, dump_index_file},
    {".timeindex",              false, dump_index_file},
    {".snapshot",               true,  dump_producers },
    {"leader-epoch-checkpoint", true,  dump_epochs    },
};

static const struct dumper *dumper_of(const char *path)
{
    for (size_t i = 0; i < sizeof dumpers / sizeof dumpers[0]; i++) {
        if (ends_with(path, dumpers[i].name)) {
            return &dumpers[i];
        }
    }
    return NULL;
}

static int is_listed(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

/* An index whose segment is missing would otherwise be passed over in silence. */
static void check_orphan(struct dump *d, const char *path)
{
    if (ends_with(path, ".index") || ends_with(path, ".timeindex")) {
        struct stat st;
        char *log = NULL;
        const char *dot = strrchr(path, '.');
        if (asprintf(&log, "%.*s.log", (int)(dot - path), path) >= 0) {
            if (stat(log, &st) != 0) {
                dump_problem(d, path, "no segment beside it");
            }
            free(log);
        }
    }
}

static void dump_dir(struct dump *d, const char *path, int depth)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_listed, alphasort);
    if (count < 0) {
        dump_problem(d, path, "cannot be listed: %s", strerror(errno));
        return;
    }
    for (int i = 0; i < count; i++) {
        struct stat st;
        char *entry = d->failed ? NULL : joined(path, entries[i]->d_name);
        const struct dumper *dumper = dumper_of(entries[i]->d_name);
        if (!entry) {
            d->failed = true;
        } else if (lstat(entry, &st) != 0) {
            dump_problem(d, entry, "%s", strerror(errno));
        } else if (S_ISDIR(st.st_mode) && depth > 1) {
            dump_dir(d, entry, depth - 1);
        } else if (S_ISREG(st.st_mode) && dumper) {
            dumper->is_of_dirs ? dumper->dump(d, entry) : check_orphan(d, entry);
        }
        free(entry);
        free(entries[i]);
    }
    free(entries);
}

int verb_log_dump(struct tool *t)
{
    struct dump d = {.t = t, .records = tool_has(t, 'r')};
    for (int i = 0; i < t->arg_count && !d.failed; i++) {
        const char *path = t->args[i];
        const struct dumper *dumper = dumper_of(path);
        struct stat st;
        if (stat(path, &st) != 0) {
            dump_problem(&d, path, "%s", strerror(errno));
        } else if (S_ISDIR(st.st_mode)) {
            dump_dir(&d, path, DUMP_DEPTH);
        } else if (dumper) {
            dumper->dump(&d, path);
        } else {
            dump_problem(&d, path,
                         "neither .log, .index, .timeindex, .snapshot nor leader-epoch-checkpoint");
        }
    }
    batch_scratch_finish(&d.scratch);
    buf_finish(&d.batch);
    if (d.problems > 0) {
        fprintf(stderr, "rivulet: %lld problem%s\n", (long long)d.problems,
                d.problems == 1 ? "" : "s");
    }
    return d.failed || d.problems > 0 ? EXIT_FAILED : EXIT_DONE;
}
