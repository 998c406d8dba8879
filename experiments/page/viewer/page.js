// Turns the camera round the head: by mouse, touch, wheel, pinch and arrow keys.
// The scene's axes are x right, y down, z forward for a camera in front of the face.
const scene = JSON.parse(document.getElementById("scene").textContent);
const canvas = document.querySelector("canvas");
const problem = (text) => {
  const shown = document.getElementById("problem");
  shown.textContent = text;
  shown.hidden = false;
};

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const start = { yaw: 0, pitch: 0, distance: scene.distance };
const goal = { ...start }; // where the camera goes,
const now = { ...start }; // and where it is on the way
let drawn = 0; // when, the last time
let left = 0; // pictures to draw; none while nothing moves: phones stay cool

function wake(pictures = 90) {
  left = pictures;
}

function look(yaw, pitch, distance = goal.distance) {
  goal.yaw = clamp(yaw, -scene.maxYaw, scene.maxYaw);
  goal.pitch = clamp(pitch, -scene.maxPitch, scene.maxPitch);
  goal.distance = clamp(distance, scene.nearest, scene.farthest);
  wake();
}

function listen() {
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const before = fingers.size === 2 ? spread() : 0;
    const dx = event.clientX - finger.x, dy = event.clientY - finger.y;
    finger.x = event.clientX;
    finger.y = event.clientY;
    if (fingers.size === 1) {
      const turn = 3 / Math.min(canvas.clientWidth, canvas.clientHeight);
      look(goal.yaw - turn * dx, goal.pitch + turn * dy);
    } else if (fingers.size === 2 && spread() > 0) {
      look(goal.yaw, goal.pitch, (goal.distance * before) / spread());
    }
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    look(goal.yaw, goal.pitch, goal.distance * Math.exp(clamp(lines * event.deltaY, -200, 200) / 1000));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => look(start.yaw, start.pitch, start.distance));
  addEventListener("keydown", (event) => {
    const step = 0.1;
    const moves = {
      ArrowLeft: [-step, 0, 1], ArrowRight: [step, 0, 1], ArrowUp: [0, step, 1],
      ArrowDown: [0, -step, 1], "+": [0, 0, 0.9], "-": [0, 0, 1 / 0.9],
    };
    const move = moves[event.key];
    if (event.key === "Home") look(start.yaw, start.pitch, start.distance);
    if (move) look(goal.yaw + move[0], goal.pitch + move[1], goal.distance * move[2]);
  });
}

function open() {
  const text = atob(document.getElementById("splat").textContent.trim());
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const world = new SPLAT.Scene(), camera = new SPLAT.Camera();
  world.addObject(new SPLAT.Splat(SPLAT.SplatData.Deserialize(bytes)));
  const renderer = new SPLAT.WebGLRenderer(canvas, []);
  renderer.backgroundColor = new SPLAT.Color32(...scene.background);

  function resize() {
    const scale = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(scale * canvas.clientWidth);
    const height = Math.round(scale * canvas.clientHeight);
    const focal = camera.data.fx = camera.data.fy = scene.focal * Math.min(width, height);
    if (canvas.width !== width || canvas.height !== height) renderer.setSize(width, height);
    // The viewer itself tells its shader of the lens only once: Gaussians would keep their size.
    const { gl, renderProgram } = renderer;
    gl.useProgram(renderProgram.program);
    gl.uniform2f(gl.getUniformLocation(renderProgram.program, "focal"), focal, focal);
  }

  function draw() {
    requestAnimationFrame(draw);
    const time = performance.now();
    const near = 1 - Math.exp((drawn - time) / 70); // as fast on slow machines
    drawn = time;
    if (left <= 0) return;
    left -= 1;
    for (const name of ["yaw", "pitch", "distance"]) now[name] += near * (goal[name] - now[name]);
    const { yaw, pitch, distance } = now;
    camera.position = new SPLAT.Vector3(
      distance * Math.sin(yaw) * Math.cos(pitch),
      -distance * Math.sin(pitch),
      -distance * Math.cos(yaw) * Math.cos(pitch),
    );
    camera.rotation = SPLAT.Quaternion.FromEuler(new SPLAT.Vector3(-pitch, -yaw, 0));
    renderer.render(world, camera);
    fade(distance);
  }

  // An upright window, or a camera far away, sees below what was fitted, where the shoulders end.
  function fade(distance) {
    const side = (start.distance / distance) * Math.min(canvas.clientWidth, canvas.clientHeight);
    const end = (canvas.clientHeight + side) / 2;
    canvas.style.maskImage = end < canvas.clientHeight - 1
      ? `linear-gradient(#000 ${end - 0.15 * side}px, transparent ${end}px)` : "none";
  }

  addEventListener("resize", () => { resize(); wake(); });
  listen();
  camera.data.setSize(1, 1);
  resize();
  renderer.render(world, camera);
  resize();
  wake(240); // until the first order of depth has come back from the worker
  draw();
  return () => ({ ...now, ordered: renderer.renderProgram.depthIndex.length });
}

try {
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("no WebGL 2");
  // For whoever embeds or tests the page.
  window.head = { look, state: open(), viewer: SPLAT };
} catch (error) {
  problem(`The head cannot be shown here (${error.message}); try a newer browser.`);
}
