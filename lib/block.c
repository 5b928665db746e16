/* SPDX-License-Identifier: MIT
 *
 * Blocks: a hidden head in front of each, which chains those that are freed together.
 */
#include "block.h"

#include <stdint.h>
#include <string.h>

#include "credstore.h"
#include "mem.h"

typedef struct head {
    struct head *next;
    size_t size; /* with the head */
} head;

static head *head_of(const void *block)
{
    return (head *)((uintptr_t)block - sizeof(head));
}

void *cs_block_new(size_t size)
{
    size_t whole;
    head *h;

    if (!cs_add(size, sizeof *h, &whole))
        return NULL;
    h = cs_alloc(1, whole);
    if (h == NULL)
        return NULL;
    h->size = whole;
    return h + 1;
}

void cs_block_adopt(void *parent, void *child)
{
    head *last;

    if (child == NULL)
        return;
    for (last = head_of(child); last->next != NULL; last = last->next)
        continue;
    last->next = head_of(parent)->next;
    head_of(parent)->next = head_of(child);
}

const char *cs_block_text(char **at, credstore_bytes text)
{
    char *start = *at;

    if (text.len > 0)
        memcpy(start, text.ptr, text.len);
    start[text.len] = '\0';
    *at += text.len + 1;
    return start;
}

void credstore_free(const void *view)
{
    head *h = view == NULL ? NULL : head_of(view);

    while (h != NULL) {
        head *next = h->next;

        cs_free_wiped(h, h->size);
        h = next;
    }
}
