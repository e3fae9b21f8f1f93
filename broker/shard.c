#include "broker/shard.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

void shards_init(struct shards *all, int32_t count)
{
    check(count > 0);
    *all = (struct shards){.list = mem_need_zero((size_t)count, sizeof *all->list), .count = count};
    for (int32_t i = 0; i < count; i++) {
        struct shard *s = &all->list[i];
        s->all = all;
        s->index = i;
        s->inbox = mem_need_zero((size_t)count, sizeof *s->inbox);
        for (int32_t k = 0; k < count; k++) {
            list_init(&s->inbox[k]);
        }
    }
}

void shards_finish(struct shards *all)
{
    for (int32_t i = 0; i < all->count; i++) {
        for (int32_t k = 0; k < all->count; k++) {
            check(list_empty(&all->list[i].inbox[k]));
        }
        mem_free(all->list[i].inbox);
    }
    mem_free(all->list);
    *all = (struct shards){0};
}

int32_t shard_of_partition(const struct shards *all, struct uuid topic, int32_t partition)
{
    uint8_t key[sizeof topic.b + 4];
    if (all->count == 1) {
        return 0;
    }
    memcpy(key, topic.b, sizeof topic.b);
    put_be32(key + sizeof topic.b, (uint32_t)partition);
    return (int32_t)(crc32c(key, sizeof key) % (uint32_t)all->count);
}

int32_t shard_of_internal(const struct shards *all, int32_t partition)
{
    return partition % all->count;
}

static void post(struct message *m, struct shard *from, struct shard *to)
{
    list_push(&to->inbox[from->index], &m->link);
    if (to->wake) {
        to->wake(to->ctx);
    }
}

bool message_send(struct message *m, struct shard *from, struct shard *to)
{
    m->from = from;
    m->to = to;
    m->back = false;
    if (from == to) {
        return m->run(m);
    }
    post(m, from, to);
    return false;
}

void message_return(struct message *m)
{
    if (m->from == m->to) {
        m->done(m);
    } else {
        m->back = true;
        post(m, m->to, m->from);
    }
}

bool shard_deliver(struct shard *s, int32_t from)
{
    struct list *first = list_pop(&s->inbox[from]);
    if (!first) {
        return false;
    }
    struct message *m = list_entry(first, struct message, link);
    if (m->back) {
        m->done(m);
    } else {
        bool one_way = !m->done; /* then it may be gone behind `run` */
        bool dealt_with = m->run(m);
        if (dealt_with && !one_way) {
            message_return(m);
        }
    }
    return true;
}
