// The half of the visit's table that runs in the page; dashboard_table.py is the other. A row comes
// once, however many follow, and joins the table where it is: filter, order and page stay.

async function load(code) {
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const { default: itables } = await import(address);
  URL.revokeObjectURL(address);
  return { render: itables.render, $: window.$ }; // itables leaves its jQuery there
}

export default () => {
  const rows = [];
  const views = new Set();
  let itables, arrived;
  let otherColumns = false;
  return {
    initialize({ model }) {
      model.on("change:options", () => (otherColumns = true)); // All rows come next.
      arrived = new Promise((resolve) => {
        model.on("msg:custom", ({ count, changed }) => {
          const fewer = count < rows.length;
          rows.length = count;
          for (const [place, row] of changed) rows[place] = row;
          for (const view of views) {
            if (otherColumns) view.redraw();
            else view.update(fewer ? rows.entries() : changed, fewer);
          }
          otherColumns = false;
          resolve();
        });
      });
      model.send("rows"); // From now on what changes is sent; nothing was before.
    },
    async render({ model, el }) {
      itables ??= load(model.get("code"));
      const [{ render, $ }] = await Promise.all([itables, arrived]);
      const view = {
        update(changed, anew) {
          const table = $(el).find("table.dataTable").DataTable();
          if (anew) table.clear();
          const known = table.rows().count();
          for (const [place, row] of changed) {
            if (place < known) table.row(place).data(row);
            else table.row.add(row);
          }
          table.draw(false);
        },
      };
      const dressed = {
        get(name) {
          if (name !== "_dt_args") return model.get(name);
          return { ...model.get("options"), data_json: JSON.stringify(rows) };
        },
        set: (name, value) => model.set(name, value),
        save_changes: () => model.save_changes(),
        on(event, redraw) {
          if (event === "change:_dt_args") view.redraw = redraw;
          else model.on(event, redraw);
        },
      };
      render({ model: dressed, el });
      views.add(view);
      return () => views.delete(view);
    },
  };
};
