#include "base/check.h"
#include "base/mem.h"
#include "broker/meta/state.h"

/* ---- names and look-ups */

err meta_check_name(struct str name)
{
    if (name.len == 0 || name.len > META_NAME_SIZE || str_eq(name, STR(".")) ||
        str_eq(name, STR(".."))) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '.' || c == '_' || c == '-';
        if (!legal) {
            return ERR_INVALID;
        }
    }
    return OK;
}

static struct str fold(struct str name, char out[META_NAME_SIZE])
{
    for (size_t i = 0; i < name.len; i++) {
        out[i] = name.ptr[i] == '.' ? '_' : name.ptr[i];
    }
    return (struct str){.ptr = out, .len = name.len};
}

/* Index of the first ready topic whose name is not before `name`. */
static int32_t lower_bound(const struct meta *m, struct str name)
{
    int32_t low = 0, high = m->sorted_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (str_cmp(m->sorted[middle]->topic.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct topic *meta_find(const struct meta *m, struct str name)
{
    struct entry *e = map_get_str(&m->by_name, name);
    return e && e->ready ? &e->topic : NULL;
}

struct topic *meta_find_id(const struct meta *m, struct uuid id)
{
    struct entry *e = map_get(&m->by_id, id.b, sizeof id.b);
    return e && e->ready ? &e->topic : NULL;
}

int32_t meta_topic_count(const struct meta *m)
{
    return m->sorted_count;
}

struct topic *meta_topic_at(const struct meta *m, int32_t index)
{
    check(index >= 0 && index < m->sorted_count);
    return &m->sorted[index]->topic;
}

int32_t meta_topic_index(const struct meta *m, struct str name)
{
    return lower_bound(m, name);
}

struct entry *entry_find_twin(const struct meta *m, struct str name)
{
    char folded[META_NAME_SIZE];
    return map_get_str(&m->folded, fold(name, folded));
}

/* ---- entries */

struct entry *entry_create(struct meta *m, struct str name, struct uuid id, int32_t partition_count,
                           bool internal, struct topic_config *config)
{
    struct entry *e = mem_need_zero(1, sizeof *e);
    e->name = mem_need_zero(1, name.len + 1);
    memcpy(e->name, name.ptr, name.len);
    e->topic = (struct topic){
        .name = {.ptr = e->name, .len = name.len},
        .id = id,
        .partition_count = partition_count,
        .version = 1,
        .internal = internal,
        .config = config
    };
    char folded[META_NAME_SIZE];
    check(map_put_str(&m->by_name, e->topic.name, e) == OK);
    check(map_put_str(&m->folded, fold(e->topic.name, folded), e) == OK);
    m->partition_count += partition_count;
    return e;
}

void entry_hide(struct meta *m, struct entry *e)
{
    if (!e->ready) {
        return;
    }
    int32_t at = lower_bound(m, e->topic.name);
    check(at < m->sorted_count && m->sorted[at] == e); /* invariant 3 */
    memmove(m->sorted + at, m->sorted + at + 1,
            (size_t)(m->sorted_count - at - 1) * sizeof *m->sorted);
    m->sorted_count--;
    e->ready = false;
}

void entry_show(struct meta *m, struct entry *e)
{
    check(!e->ready);
    if (m->sorted_count == m->sorted_size) {
        m->sorted_size = m->sorted_size ? m->sorted_size * 2 : 16;
        m->sorted = mem_need_resize(m->sorted, (size_t)m->sorted_size * sizeof *m->sorted);
    }
    int32_t at = lower_bound(m, e->topic.name);
    memmove(m->sorted + at + 1, m->sorted + at, (size_t)(m->sorted_count - at) * sizeof *m->sorted);
    m->sorted[at] = e;
    m->sorted_count++;
    e->ready = true;
}

static void entry_free(struct entry *e)
{
    topic_config_destroy(e->topic.config);
    mem_free(e->name);
    mem_free(e);
}

void entry_destroy(struct meta *m, struct entry *e)
{
    char folded[META_NAME_SIZE];
    entry_hide(m, e);
    map_remove_str(&m->by_name, e->topic.name);
    map_remove(&m->by_id, e->topic.id.b, sizeof e->topic.id.b);
    map_remove_str(&m->folded, fold(e->topic.name, folded));
    m->partition_count -= e->topic.partition_count;
    entry_free(e);
}
