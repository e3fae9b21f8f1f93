/* Writing: answers out of a list of pieces, memory gathered by sendmsg, extents by sendfile.
 *
 * Invariants:
 *
 * 1. out_bytes is what the pieces have not sent yet; no piece in the list is done.
 * 2. Memory of pieces is charged to the budget while they are in the list.
 */
#include "base/mem.h"
#include "broker/net/internal.h"

static struct out_piece *take_piece(struct net *net, size_t capacity)
{
    struct out_piece *piece;
    enum { SMALL = OUT_BLOCK_SIZE - sizeof(struct out_piece) };
    if (capacity && capacity <= SMALL && !list_empty(&net->out_pool)) {
        piece = list_entry(list_pop(&net->out_pool), struct out_piece, link);
        net->out_pool_count--;
        capacity = SMALL;
    } else {
        capacity = capacity && capacity < SMALL ? SMALL : capacity;
        piece = mem_need(sizeof *piece + capacity);
    }
    *piece = (struct out_piece){.capacity = capacity};
    budget_charge(net->options.budget, sizeof *piece + capacity); /* 2 */
    return piece;
}

static void give_piece(struct net *net, struct out_piece *piece)
{
    list_remove(&piece->link);
    extent_release(&piece->extent);
    budget_return(net->options.budget, sizeof *piece + piece->capacity);
    if (sizeof *piece + piece->capacity == OUT_BLOCK_SIZE && net->out_pool_count < OUT_POOL_MAX) {
        list_push_front(&net->out_pool, &piece->link);
        net->out_pool_count++;
    } else {
        mem_free(piece);
    }
}

static void note_output(struct conn *c, size_t size)
{
    if (c->out_bytes == 0) {
        c->out_ms = clock_mono_ms(c->net->options.clock);
    }
    c->out_bytes += size; /* 1 */
    c->drain_wanted = c->drain_wanted || c->out_bytes > (size_t)c->net->config->reply_bytes_max;
    conn_mark_dirty(c);
}

void conn_write(struct conn *c, const void *p, size_t size)
{
    if (c->closing || size == 0) {
        return;
    }
    const uint8_t *from = p;
    size_t left = size;
    struct out_piece *last =
        list_empty(&c->out) ? NULL : list_entry(c->out.prev, struct out_piece, link);
    if (last && last->size < last->capacity) {
        size_t part = last->capacity - last->size < left ? last->capacity - last->size : left;
        memcpy(last->data + last->size, from, part);
        last->size += part;
        from += part;
        left -= part;
    }
    if (left) {
        struct out_piece *piece = take_piece(c->net, left);
        memcpy(piece->data, from, left);
        piece->size = left;
        list_push(&c->out, &piece->link);
    }
    note_output(c, size);
}

void conn_write_extent(struct conn *c, struct extent *e)
{
    if (c->closing) {
        extent_release(e);
        return;
    }
    struct out_piece *piece = take_piece(c->net, 0);
    piece->extent = *e;
    piece->size = e->size;
    *e = (struct extent){0};
    list_push(&c->out, &piece->link);
    note_output(c, piece->size);
}

void conn_drop_output(struct conn *c)
{
    while (!list_empty(&c->out)) {
        give_piece(c->net, list_entry(c->out.next, struct out_piece, link));
    }
    c->out_bytes = 0;
}

size_t conn_output_bytes(const struct conn *c)
{
    return c->out_bytes;
}

/* Sends some of what comes first. */
static ssize_t send_some(struct conn *c)
{
    struct out_piece *first = list_entry(c->out.next, struct out_piece, link);
    if (first->extent.owner) {
        return c->transport->send_file(c->fd, &first->extent, first->done);
    }
    struct iovec parts[OUT_PARTS_MAX];
    int count = 0;
    bool more = false;
    list_each(link, &c->out)
    {
        struct out_piece *piece = list_entry(link, struct out_piece, link);
        more = piece->extent.owner != NULL;
        if (more || count == OUT_PARTS_MAX) {
            break;
        }
        parts[count++] = (struct iovec){piece->data + piece->done, piece->size - piece->done};
    }
    return c->transport->write(c->fd, parts, count, more);
}

static void advance(struct conn *c, size_t sent)
{
    struct metrics *m = c->net->options.metrics;
    c->out_bytes -= sent;
    m->sent_bytes += sent;
    while (sent) {
        struct out_piece *piece = list_entry(c->out.next, struct out_piece, link);
        size_t part = piece->size - piece->done < sent ? piece->size - piece->done : sent;
        m->sent_file_bytes += piece->extent.owner ? part : 0;
        piece->done += part;
        sent -= part;
        if (piece->done == piece->size) {
            give_piece(c->net, piece);
        }
    }
}

void conn_send_last(struct conn *c)
{
    while (c->out_bytes) {
        ssize_t n = send_some(c);
        if (n <= 0) {
            break;
        }
        advance(c, (size_t)n);
    }
}

void conn_send(struct conn *c)
{
    size_t total = 0;
    while (c->out_bytes && total < SEND_BURST) {
        ssize_t n = send_some(c);
        if (n == TRANSPORT_AGAIN) {
            break;
        }
        if (n < 0) {
            conn_close(c, CONN_END_PEER, "the socket or the file broke while an answer was sent");
            return;
        }
        advance(c, (size_t)n);
        total += (size_t)n;
    }
    if (total) {
        c->activity_ms = c->out_ms = clock_mono_ms(c->net->options.clock);
    }
    if (c->out_bytes == 0 && c->finishing) {
        conn_linger(c);
        return;
    }
    if (c->out_bytes == 0
            ? total > 0
            : c->drain_wanted && c->out_bytes <= (size_t)c->net->config->reply_bytes_max) {
        c->drain_wanted = false;
        c->net->options.events.drained(c->owner);
        conn_retry(c);
    }
    conn_update(c);
    conn_arm(c);
}
