/* SPDX-License-Identifier: MIT
 *
 * One update, as README shows it: the root key and the store in this folder, made if absent.
 */
#include <credstore.h>
#include <stdio.h>

int main(void)
{
    const credstore_actor me = {sizeof me, CREDSTORE_ACTOR_SYSTEM, .id = "me", .tenant = "acme"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &me};
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .test_secret_key = CREDSTORE_SECRET("sk_test_Hq8Jc3Ny7Pf24242", CREDSTORE_NTS),
    };
    const char *project = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    const credstore_stripe *view = NULL;
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;
    credstore_key_file("root.key", CREDSTORE_KEY_CREATE, &key, &err);
    const credstore_options options = {sizeof options, CREDSTORE_OPEN_CREATE, .key = key};
    if (key != NULL && credstore_open("store", &options, &store, &err) == CREDSTORE_OK)
        credstore_stripe_update(store, &call, project, &patch, &view, &err);
    if (view != NULL)
        printf("%s, revision %d\n", view->test_secret_key_masked, (int)view->revision);
    else
        fprintf(stderr, "%s: %s\n", credstore_status_name(err.status), err.message);
    credstore_free(view);
    credstore_close(store);
    credstore_key_source_free(key);
    return view == NULL;
}
