// Search in pages that are opened as files. A browser starts no worker for those, but it loads a
// script into a frame; this is as much of a worker as the search of the site needs.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const { contentWindow: inner, contentDocument: page } = this.frame;
      inner.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      this.loaded = new Promise((resolve) => {
        const script = page.createElement("script");
        script.onload = () => resolve(inner);
        script.onerror = () => this.onerror?.(new Event("error", { cancelable: true }));
        script.src = new URL(url, location).href;
        page.body.append(script);
      });
    }
    postMessage(data) {
      this.loaded.then((inner) => inner.onmessage?.({ data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
