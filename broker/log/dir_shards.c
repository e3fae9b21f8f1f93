/* The names of a data directory's own files: `rivulet.journal.N` and `*-offset-checkpoint` are the
 * first shard's, `rivulet.journal.SHARD.N` and `*-offset-checkpoint.SHARD` those of others.
 */
#include "broker/log/journal.h"
#include "broker/log/manager.h"

#include <stdio.h>

/* A number that is all of the text. */
static bool is_number(const char *p, size_t size, int64_t *ret_number)
{
    return size > 0 && p[0] >= '0' && p[0] <= '9' &&
           !str_to_int64((struct str){p, size}, ret_number) && *ret_number < INT32_MAX;
}

/* The shard in the name of a file; false: none is, or it is no such file's. */
static bool shard_of(struct str name, int64_t *ret_shard)
{
    static const struct str journal = {JOURNAL_NAME, sizeof JOURNAL_NAME - 1};
    static const struct str checkpoint = {"-offset-checkpoint.", 19};
    int64_t number;
    size_t dot = name.len;
    while (dot > 0 && name.ptr[dot - 1] != '.') {
        dot--;
    }
    if (dot > journal.len && memcmp(name.ptr, journal.ptr, journal.len) == 0) {
        return is_number(name.ptr + dot, name.len - dot, &number) &&
               is_number(name.ptr + journal.len, dot - 1 - journal.len, ret_shard);
    }
    return dot > checkpoint.len &&
           memcmp(name.ptr + dot - checkpoint.len, checkpoint.ptr, checkpoint.len) == 0 &&
           is_number(name.ptr + dot, name.len - dot, ret_shard);
}

static void each_entry(void *arg, const struct store_entry *entry)
{
    char *file = arg; /* DIR_NAME_SIZE bytes */
    int64_t shard;
    if (!entry->is_dir && !file[0] && shard_of(entry->name, &shard) && shard > 0) {
        snprintf(file, DIR_NAME_SIZE, "%.*s", STR_ARG(entry->name));
    }
}

err log_dir_others(struct store *store, char ret_file[DIR_NAME_SIZE])
{
    ret_file[0] = 0;
    return store->ops->list(store->ctx, "", each_entry, ret_file);
}
