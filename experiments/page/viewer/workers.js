// The viewer starts its workers as modules, from a blob or, if that fails, from a data URL. From
// file:// Chromium starts no module of a blob. These are scripts but for one `import.meta.url`, which
// they hardly use; as classic workers they start everywhere.
{
  const NativeWorker = window.Worker;
  const urlOf = URL.createObjectURL.bind(URL);
  URL.createObjectURL = () => ""; // the viewer then takes the data URL
  window.Worker = function (url) {
    const text = atob(url.slice(url.indexOf(",") + 1)).replaceAll("import.meta.url", '""');
    return new NativeWorker(urlOf(new Blob([text], { type: "text/javascript" })));
  };
}
