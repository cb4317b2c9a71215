// Keeps the folder on the device: after one visit it works without a network. `kept` stands above.
const PREFIX = `cnnkit ${registration.scope} `;
const NAME = PREFIX + kept.version;

addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(NAME);
    try {
      await cache.addAll(kept.files.map((file) => new Request(file, { cache: "no-cache" })));
    } catch (error) {
      await caches.delete(NAME);
      for (const client of await clients.matchAll({ includeUncontrolled: true })) {
        client.postMessage({ notKept: error.name });
      }
      throw error;
    }
    await skipWaiting();
  })());
});

addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await clients.claim();
  })());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(registration.scope)) return;
  const answer = async () => {
    const wanted = request.url.replace(/index\.html(?=$|[?#])/, ""); // kept as the folder itself
    const settings = { cacheName: NAME, ignoreSearch: true, ignoreVary: true };
    return (await caches.match(wanted, settings)) ?? fetch(request);
  };
  event.respondWith(answer());
});
