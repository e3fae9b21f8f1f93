/* list: a circular, doubly linked, intrusive list. The head is a node; a node in no list is zeroed
 * or points to itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next; /* borrowed; itself when empty */
    struct list *prev;
};

#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))
#define list_each(node, head)                                                                      \
    for (struct list *node = (head)->next; node != (head); node = node->next)
#define list_each_safe(node, after, head)                                                          \
    for (struct list *node = (head)->next, *after = node->next; node != (head);                    \
         node = after, after = node->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head || !head->next;
}

static inline void list_add_before(struct list *node, struct list *at)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_push(struct list *head, struct list *node) /* at the end */
{
    list_add_before(node, head);
}

static inline void list_push_front(struct list *head, struct list *node)
{
    list_add_before(node, head->next);
}

static inline bool list_linked(const struct list *node)
{
    return node->next && node->next != node;
}

static inline void list_remove(struct list *node) /* takes one that is in no list */
{
    if (!node->next) {
        return;
    }
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

static inline struct list *list_pop(struct list *head) /* the first, or NULL */
{
    if (list_empty(head)) {
        return NULL;
    }
    struct list *first = head->next;
    list_remove(first);
    return first;
}

/* Moves all of `from` to the end of `head`; `from` is empty then. */
static inline void list_splice(struct list *head, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = head->prev;
    head->prev->next = from->next;
    from->prev->next = head;
    head->prev = from->prev;
    list_init(from);
}
